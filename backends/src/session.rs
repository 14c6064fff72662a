use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{Frame, Signature};
use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::{TensorElementType, ValueType},
};

use crate::{Backend, BackendError, OUTPUT, input, library, onnx};

/// An ONNX model. A session serves one caller at a time, so there is a pool of them: as many as there ever were
/// callers at once, each with one thread, made when first needed.
pub(crate) struct OnnxBackend {
    signature: Signature,
    model: Arc<[u8]>,
    idle: Mutex<Vec<Session>>,
}

impl OnnxBackend {
    pub(crate) fn open(signature: Signature, model: Arc<[u8]>) -> Result<Self, BackendError> {
        onnx::check(&model)?;
        let first = session(&model)?;
        agree(&signature, &first)?;
        Ok(Self { signature, model, idle: Mutex::new(vec![first]) })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for OnnxBackend {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, inputs: &Frame) -> Result<Vec<f32>, BackendError> {
        let rows = inputs.rows();
        let tensors = input::tensors(&self.signature, inputs)?;
        if rows == 0 {
            return Ok(Vec::new());
        }
        let waiting = self.idle().pop();
        let mut session = match waiting {
            Some(session) => session,
            None => session(&self.model)?,
        };
        let answer = run(&mut session, tensors, rows);
        self.idle().push(session);
        answer
    }
}

fn run(
    session: &mut Session,
    tensors: Vec<(String, ort::session::SessionInputValue<'static>)>,
    rows: usize,
) -> Result<Vec<f32>, BackendError> {
    let outputs = session.run(tensors).map_err(BackendError::runtime("run the model"))?;
    let output = outputs.get(OUTPUT).ok_or_else(|| BackendError::Signature(format!("it has no output `{OUTPUT}`")))?;
    let (_, values) = output.try_extract_tensor::<f32>().map_err(BackendError::runtime("read the model's answer"))?;
    if values.len() != rows {
        return Err(BackendError::Shape { found: values.len(), rows });
    }
    match values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        Some(row) => Err(BackendError::NoProbability { row, value: values[row] }),
        None => Ok(values.to_vec()),
    }
}

fn session(model: &[u8]) -> Result<Session, BackendError> {
    let doing = "prepare a session";
    Session::builder(&library::environment()?)
        .map_err(BackendError::runtime(doing))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(BackendError::runtime(doing))?
        .with_intra_threads(1)
        .map_err(BackendError::runtime(doing))?
        .with_inter_threads(1)
        .map_err(BackendError::runtime(doing))?
        .with_parallel_execution(false)
        .map_err(BackendError::runtime(doing))?
        .commit_from_memory(model)
        .map_err(|error| BackendError::Malformed(error.message().to_owned()))
}

/// The model's own inputs and outputs are the signature's, by name and type.
fn agree(signature: &Signature, session: &Session) -> Result<(), BackendError> {
    for field in &signature.inputs {
        let wanted = input::element_of(field)?;
        let input = session.inputs().iter().find(|input| input.name() == &*field.name);
        let input = input.ok_or_else(|| BackendError::Signature(format!("it has no input `{}`", field.name)))?;
        if element(input.dtype()) != Some(wanted) {
            let message = format!("input `{}` is {:?}, the signature says {wanted:?}", field.name, input.dtype());
            return Err(BackendError::Signature(message));
        }
    }
    let declared = |name: &str| signature.inputs.iter().any(|field| &*field.name == name);
    if let Some(extra) = session.inputs().iter().find(|input| !declared(input.name())) {
        return Err(BackendError::Signature(format!("input `{}` is not in the signature", extra.name())));
    }
    match session.outputs().iter().find(|output| output.name() == OUTPUT) {
        Some(output) if element(output.dtype()) == Some(TensorElementType::Float32) => Ok(()),
        Some(_) => Err(BackendError::Signature(format!("output `{OUTPUT}` is not a float tensor"))),
        None => Err(BackendError::Signature(format!("it has no output `{OUTPUT}`"))),
    }
}

fn element(kind: &ValueType) -> Option<TensorElementType> {
    match kind {
        ValueType::Tensor { ty, .. } => Some(*ty),
        _ => None,
    }
}
