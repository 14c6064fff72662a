//! What can go wrong while conducting.

use domain::{
    Coded, EndpointName, ErrorCode, ModelRef, PipelineName, PipelineRunId, SourceName, lineage::NodeRef,
    ports::PortError, state::IllegalMove,
};
use serving::ServingError;
use storage::StorageError;

use crate::{check::Problem, definition::DefinitionError};

#[derive(Debug, thiserror::Error)]
pub enum ConductorError {
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// All that is wrong with a batch of definitions, found before anything was written.
    #[error("{}", listed(.0))]
    Invalid(Vec<Problem>),
    #[error("pipeline `{name}` does not exist")]
    NoSuchPipeline { name: PipelineName, nearest: Option<String> },
    #[error("pipeline run {0} does not exist")]
    NoSuchRun(PipelineRunId),
    #[error("endpoint `{name}` does not exist")]
    NoSuchEndpoint { name: EndpointName, nearest: Option<String> },
    #[error("nothing is known of `{0}`")]
    NoSuchNode(NodeRef),
    #[error("endpoint `{0}` has no version deployed yet")]
    NothingDeployed(EndpointName),
    /// A split that cannot be deployed.
    #[error("endpoint `{endpoint}`: {problem}")]
    BadDeployment { endpoint: EndpointName, problem: String },
    /// A version that cannot go while an endpoint has it.
    #[error("model version `{version}` is served by endpoint `{endpoint}`")]
    StillServed { version: ModelRef, endpoint: EndpointName },
    /// So many labels were refused that not each can be named.
    #[error("{refused} label rows were refused by source `{source_name}`, the first because {first}")]
    BadLabels { source_name: SourceName, refused: u64, first: String },
    #[error(transparent)]
    Move(#[from] IllegalMove),
    /// What a step found to be missing or wrong; the run that meets it fails.
    #[error("{0}")]
    Step(String),
    /// Several servers share the database, and another one conducts.
    #[error("pipelines and endpoints are kept by another server, whose data directory is `{keeper}`")]
    Elsewhere { keeper: String },
    /// What serving answered to a prediction.
    #[error(transparent)]
    Serving(ServingError),
    /// Another room refused.
    #[error("could not {doing}: {source}")]
    Room { doing: &'static str, source: PortError },
    #[error("could not {doing}: {source}")]
    Storage { doing: &'static str, source: StorageError },
    /// A stored row that this version cannot read.
    #[error("stored {what} cannot be read: {reason}")]
    Corrupt { what: &'static str, reason: String },
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Coded for ConductorError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Definition(_) | Self::Invalid(_) | Self::BadDeployment { .. } | Self::BadLabels { .. } => {
                ErrorCode::InvalidArgument
            }
            Self::NoSuchPipeline { .. } | Self::NoSuchRun(_) | Self::NoSuchEndpoint { .. } | Self::NoSuchNode(_) => {
                ErrorCode::NotFound
            }
            Self::NothingDeployed(_) => ErrorCode::Unavailable,
            Self::Move(_) | Self::Elsewhere { .. } | Self::StillServed { .. } => ErrorCode::Conflict,
            Self::Serving(source) => source.code(),
            Self::Room { source, .. } => source.code(),
            Self::Storage { source, .. } => source.code(),
            Self::Corrupt { .. } => ErrorCode::DataLoss,
            Self::Step(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::NoSuchPipeline { nearest: Some(near), .. } | Self::NoSuchEndpoint { nearest: Some(near), .. } => {
                format!("did you mean `{near}`?")
            }
            Self::NoSuchPipeline { .. } => "apply a definition of kind Pipeline first".into(),
            Self::NoSuchEndpoint { .. } => "apply a definition of kind Endpoint first".into(),
            Self::NothingDeployed(name) => {
                format!("deploy a version, as in `millpond deploy {name} 1`, or run a pipeline that does")
            }
            Self::BadDeployment { .. } => {
                "give registered versions of the endpoint's model, each once, with whole percents that add up to 100"
                    .into()
            }
            Self::StillServed { endpoint, .. } => format!("deploy another version behind `{endpoint}` first"),
            Self::BadLabels { .. } => "labels that were stored may be sent again: they are known then".into(),
            Self::Definition(_) | Self::Invalid(_) => "mend the definition and apply the file again".into(),
            Self::Elsewhere { .. } => "send this to the server that keeps them".into(),
            Self::Serving(source) => source.hint(),
            Self::Room { source, .. } => source.hint(),
            Self::Storage { source, .. } => source.hint(),
            Self::NoSuchRun(_) | Self::NoSuchNode(_) | Self::Move(_) | Self::Step(_) | Self::Corrupt { .. } => {
                String::new()
            }
        }
    }
}

/// Says what was being done when something below refused.
pub(crate) trait During<T> {
    fn during(self, doing: &'static str) -> Result<T, ConductorError>;
}

impl<T> During<T> for Result<T, StorageError> {
    fn during(self, doing: &'static str) -> Result<T, ConductorError> {
        self.map_err(|source| ConductorError::Storage { doing, source })
    }
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, doing: &'static str) -> Result<T, ConductorError> {
        self.map_err(|source| ConductorError::Storage { doing, source: source.into() })
    }
}

/// The same for the rooms, whose errors are carried with their codes.
pub(crate) trait Asking<T> {
    fn asking(self, doing: &'static str) -> Result<T, ConductorError>;
}

impl<T, E: Coded> Asking<T> for Result<T, E> {
    fn asking(self, doing: &'static str) -> Result<T, ConductorError> {
        self.map_err(|e| ConductorError::Room { doing, source: PortError::from_coded(&e) })
    }
}

/// Reads a JSON column back.
pub(crate) fn stored<T: serde::de::DeserializeOwned>(what: &'static str, json: &str) -> Result<T, ConductorError> {
    serde_json::from_str(json).map_err(|e| ConductorError::Corrupt { what, reason: e.to_string() })
}

/// Writes a JSON column. What the conductor stores is plain data with text keys, which always has a JSON form.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}
