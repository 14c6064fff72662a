//! The words of Millpond: ids, names, time, values, definitions, records, states and ports.
//!
//! Every other crate speaks in these types. Nothing here reads a clock, a file or a socket, and
//! nothing here knows tokio, HTTP or protobuf.

pub mod access;
pub mod definition;
pub mod digest;
pub mod duration;
mod entity;
pub mod error;
pub mod event;
pub mod frame;
pub mod id;
pub mod lineage;
pub mod list;
pub mod model;
pub mod name;
pub mod ports;
pub mod prediction;
pub mod state;
pub mod time;
mod window;

pub use access::{Right, Role};
pub use digest::{Digest, Digester};
pub use duration::Span;
pub use error::{Coded, ErrorCode};
pub use event::{Event, EventKind, NewEvent};
pub use frame::{BadValue, Column, Field, Frame, FrameError, Value, ValueType};
pub use id::{AlertId, ApprovalId, JobId, PipelineRunId, PredictionId, RunId, TaskId, UploadId, WebhookId};
pub use list::{ListType, Scalar};
pub use model::{ModelFiles, ModelRef, Signature};
pub use name::{
    BadModelName, BadName, ColumnName, EndpointName, EntityName, ModelName, PipelineName, ProjectName, ServiceName,
    SourceName, ViewName,
};
pub use time::Timestamp;
