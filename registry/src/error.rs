//! What the registry refuses, and why.

use domain::{Coded, Digest, ErrorCode, ModelName, ModelRef, RunId, state::IllegalMove};
use storage::StorageError;

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("run `{0}` does not exist")]
    NoSuchRun(RunId),
    #[error("model `{name}` does not exist")]
    NoSuchModel { name: ModelName, nearest: Option<String> },
    #[error("model version `{version}` does not exist")]
    NoSuchVersion { version: ModelRef, newest: u32 },
    #[error("model `{model}` has no alias `{alias}`")]
    NoSuchAlias { model: ModelName, alias: String, nearest: Option<String> },
    #[error("dataset `{0}` does not exist")]
    NoSuchDataset(Digest),
    /// A thing without an id type of its own.
    #[error("{what} `{name}` does not exist")]
    NoSuch { what: &'static str, name: String },
    /// A name that is taken, also by what was deleted and can be restored.
    #[error("{what} `{name}` already exists{detail}")]
    Exists { what: &'static str, name: String, detail: &'static str },
    /// A deleted thing that must be restored before it can be written to.
    #[error("{what} `{name}` is deleted")]
    Deleted { what: &'static str, name: String },
    /// Something refers to bytes that were never stored.
    #[error("{what} names blob `{digest}`, which is not stored")]
    MissingBlob { what: String, digest: Digest },
    /// Parameters say what a run was made with, so they never change.
    #[error("parameter `{key}` of run `{run}` is `{found}` and cannot become another")]
    ParamChanged { run: RunId, key: String, found: String },
    #[error(transparent)]
    IllegalMove(#[from] IllegalMove),
    /// Something would move or remove a protected alias, or what it points at.
    #[error("alias `{alias}` of model `{model}` is protected: {}", needs(*.approvals))]
    Protected { model: ModelName, alias: String, approvals: u32, version: Option<u32> },
    #[error("alias `{alias}` of model `{model}` is not protected")]
    NotProtected { model: ModelName, alias: String },
    #[error("alias `{alias}` points at `{version}` already")]
    Already { alias: String, version: ModelRef },
    /// What this person may not do.
    #[error("{problem}")]
    Denied { problem: String, hint: &'static str },
    /// A version that may not get a protected alias as it stands.
    #[error("`{version}` does not pass the gates of alias `{alias}`: {}", .failed.join("; "))]
    GatesClosed { version: ModelRef, alias: String, failed: Vec<String> },
    #[error("{what} {problem}")]
    Invalid { what: String, problem: String, hint: &'static str },
    /// A stored record that cannot be read back.
    #[error("the stored {what} cannot be read: {detail}")]
    Damaged { what: &'static str, detail: String },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn needs(approvals: u32) -> String {
    match approvals {
        1 => "it moves only when somebody approves a request".to_owned(),
        many => format!("it moves only when {many} people approve a request"),
    }
}

impl From<sqlx::Error> for RegistryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl RegistryError {
    pub(crate) fn invalid(what: impl Into<String>, problem: impl Into<String>, hint: &'static str) -> Self {
        Self::Invalid { what: what.into(), problem: problem.into(), hint }
    }

    /// Wraps whatever a stored text did not parse as.
    pub(crate) fn damaged<E: ToString>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Damaged { what, detail: error.to_string() }
    }
}

impl Coded for RegistryError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchRun(_)
            | Self::NoSuchModel { .. }
            | Self::NoSuchVersion { .. }
            | Self::NoSuchAlias { .. }
            | Self::NoSuchDataset(_)
            | Self::NoSuch { .. } => ErrorCode::NotFound,
            Self::Exists { .. } => ErrorCode::AlreadyExists,
            Self::Deleted { .. } => ErrorCode::Conflict,
            Self::MissingBlob { .. } | Self::Invalid { .. } => ErrorCode::InvalidArgument,
            Self::ParamChanged { .. }
            | Self::IllegalMove(_)
            | Self::NotProtected { .. }
            | Self::Already { .. }
            | Self::GatesClosed { .. } => ErrorCode::Conflict,
            Self::Protected { .. } | Self::Denied { .. } => ErrorCode::PermissionDenied,
            Self::Damaged { .. } => ErrorCode::DataLoss,
            Self::Storage(source) => source.code(),
        }
    }

    fn hint(&self) -> String {
        let did_you_mean = |near: &Option<String>, otherwise: &str| match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => otherwise.to_owned(),
        };
        match self {
            Self::NoSuchModel { nearest, .. } => did_you_mean(nearest, "register a version of it first"),
            Self::NoSuchAlias { nearest, .. } => {
                did_you_mean(nearest, "set the alias first, or name a version by its number or as `latest`")
            }
            Self::NoSuchVersion { newest: 0, .. } => "register a version first".into(),
            Self::NoSuchVersion { newest, .. } => format!("the newest version is {newest}"),
            Self::NoSuchRun(_) => "list the runs of the experiment to find its id".into(),
            Self::NoSuchDataset(_) => "record the dataset before anything refers to it".into(),
            Self::NoSuch { .. } => String::new(),
            Self::Exists { .. } => "choose another name, or restore or rename the one that has it".into(),
            Self::Deleted { .. } => "restore it first".into(),
            Self::MissingBlob { .. } => "store the bytes before recording what refers to them".into(),
            Self::ParamChanged { .. } => "start another run, or keep the changing value as a metric or tag".into(),
            Self::Protected { model, alias, version, .. } => {
                let version = version.map_or_else(|| "VERSION".to_owned(), |version| version.to_string());
                format!(
                    "ask with `millpond models ask {model} {alias} {version} --reason ...` or POST \
                     /api/v1/models/{model}/approvals"
                )
            }
            Self::NotProtected { .. } => "set the alias; nobody has to approve that".into(),
            Self::Already { .. } => "nothing needs to be asked".into(),
            Self::Denied { hint, .. } => (*hint).into(),
            Self::GatesClosed { .. } => "mend the version, or have the protection changed".into(),
            Self::IllegalMove(IllegalMove { machine: "approval request", .. }) => {
                "a request is decided once; ask again".into()
            }
            Self::IllegalMove(_) => "a run that has ended stays as it ended; start another".into(),
            Self::Invalid { hint, .. } => (*hint).into(),
            Self::Damaged { .. } => "restore it from a backup".into(),
            Self::Storage(source) => source.hint(),
        }
    }
}
