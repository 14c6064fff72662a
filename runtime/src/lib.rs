//! What runs the rooms: the clock, named tasks with one orderly end, the pool that computes, seeds,
//! settings, metrics and logs. No rule of any room lives here.

pub mod clock;
pub mod config;
pub mod cpu;
pub mod house;
pub mod metrics;
pub mod seeds;
pub mod telemetry;

pub use clock::Clock;
pub use config::{Config, ConfigError, Loaded};
pub use cpu::{Cpu, CpuError};
pub use house::House;
pub use metrics::{Metric, Metrics};
pub use seeds::seeded;
pub use tokio_util::sync::CancellationToken;
