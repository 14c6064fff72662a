//! The maths of judging models: quality, comparison, drift. Pure functions over slices: no clock, no
//! files, no threads, and chance only from a seed that is passed in.
//!
//! Each function names the source of its formula. Where the data cannot answer, the answer is `None` or
//! [`Verdict::InsufficientData`], never a panic, a NaN or a guess. Slices that belong together must have the
//! same length; that is the caller's promise and the one thing that panics.

pub mod bootstrap;
mod bytes;
pub mod chi2;
pub mod ddsketch;
pub mod drift;
pub mod hyperloglog;
pub mod interval;
pub mod moments;
pub mod normal;
pub mod quality;
pub mod reference;
mod special;
pub mod student;
#[cfg(test)]
mod testing;

pub use bootstrap::{Bootstrap, paired_bootstrap};
pub use bytes::BadSketch;
pub use chi2::{Chi2, chi2_homogeneity, chi2_sf};
pub use ddsketch::DdSketch;
pub use drift::{
    ColumnDrift, DriftGate, Verdict, drift_verdict, ks, pool_rare, psi, psi_noise, total_variation,
    total_variation_noise, weighted_psi,
};
pub use hyperloglog::HyperLogLog;
pub use interval::{Interval, wilson};
pub use moments::{Moments, Welch, ZTest, welch, z_test};
pub use normal::{normal_cdf, normal_quantile};
pub use quality::{Quality, auc, bias, brier, log_loss, quality, rate, row_loss, row_losses};
pub use reference::{ColumnReference, Counts, Holdout, Reference};
