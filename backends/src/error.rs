use std::path::PathBuf;

use domain::{Coded, ErrorCode, FrameError, ValueType};

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("ONNX Runtime's shared library was not found; looked in {}", places(.looked))]
    NoLibrary { looked: Vec<PathBuf> },
    #[error("ONNX Runtime at `{path}` could not be loaded: {reason}", path = path.display())]
    BadLibrary { path: PathBuf, reason: String },
    #[error("ONNX Runtime is already loaded from `{loaded}`, not from `{wanted}`", loaded = loaded.display(), wanted = wanted.display())]
    OtherLibrary { loaded: PathBuf, wanted: PathBuf },
    #[error("the model has no file `{0}`")]
    NoFile(&'static str),
    #[error("`model.onnx` is not an ONNX model: {0}")]
    Malformed(String),
    #[error("`model.onnx` keeps tensor `{tensor}` in another file, which is not allowed")]
    ExternalData { tensor: String },
    #[error("the model does not match its signature: {0}")]
    Signature(String),
    #[error("input {0}")]
    Input(#[from] FrameError),
    #[error("input column `{column}` is a {kind}, which no ONNX input can hold")]
    NoTensor { column: String, kind: ValueType },
    #[error("the model answered {found} values for {rows} rows")]
    Shape { found: usize, rows: usize },
    #[error("the model's answer for row {row} is {value}, which is no probability")]
    NoProbability { row: usize, value: f32 },
    #[error("ONNX Runtime could not {doing}: {reason}")]
    Runtime { doing: &'static str, reason: String },
}

fn places(looked: &[PathBuf]) -> String {
    looked.iter().map(|p| format!("`{}`", p.display())).collect::<Vec<_>>().join(", ")
}

impl BackendError {
    pub(crate) fn runtime<R>(doing: &'static str) -> impl FnOnce(ort::Error<R>) -> Self {
        move |error| Self::Runtime { doing, reason: error.message().to_owned() }
    }
}

impl Coded for BackendError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoLibrary { .. } | Self::BadLibrary { .. } => ErrorCode::Unavailable,
            Self::NoFile(_) | Self::Malformed(_) | Self::ExternalData { .. } | Self::Signature(_) => {
                ErrorCode::InvalidArgument
            }
            Self::Input(_) | Self::NoTensor { .. } => ErrorCode::InvalidArgument,
            Self::OtherLibrary { .. } => ErrorCode::Conflict,
            Self::Shape { .. } | Self::NoProbability { .. } | Self::Runtime { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::NoLibrary { .. } | Self::BadLibrary { .. } => {
                "run `make setup`, which fetches it, or set `onnx.library` or ORT_DYLIB_PATH to libonnxruntime.so"
                    .into()
            }
            Self::ExternalData { .. } => "save the model with its weights inside the file".into(),
            Self::Malformed(_) => "export the model again; the file must be a whole ONNX protobuf".into(),
            Self::OtherLibrary { .. } => "restart to use another library".into(),
            _ => String::new(),
        }
    }
}
