use std::sync::Arc;

use domain::{Frame, ModelFiles, Signature};

use crate::{BackendError, session::OnnxBackend};

/// The file every version has.
pub const MODEL_FILE: &str = "model.onnx";
/// The model's output: float `[N, 1]`, the probability of the positive class.
pub const OUTPUT: &str = "probability";

/// A model that is ready to answer. Calls may run on many threads at once.
pub trait Backend: Send + Sync {
    /// The columns the model reads and writes.
    fn signature(&self) -> &Signature;

    /// The probability of the positive class, one per row of `inputs`, each in `0..=1`. `inputs` may hold more
    /// columns than needed, in any order.
    ///
    /// # Errors
    /// When a column of the signature is missing or of another type, and when the model fails.
    fn predict(&self, inputs: &Frame) -> Result<Vec<f32>, BackendError>;
}

/// Makes a version's files ready to run. Files are hostile input: they are checked before anything runs.
///
/// # Errors
/// When `model.onnx` is missing, malformed, refers to other files or does not match `signature`.
pub fn load(signature: &Signature, files: &ModelFiles) -> Result<Arc<dyn Backend>, BackendError> {
    let bytes = files.get(MODEL_FILE).ok_or(BackendError::NoFile(MODEL_FILE))?;
    Ok(Arc::new(OnnxBackend::open(signature.clone(), Arc::clone(bytes))?))
}
