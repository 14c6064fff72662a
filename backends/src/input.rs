//! Columns as ONNX tensors: one `[N, 1]` tensor per column of the signature.

use domain::{Column, Field, Frame, FrameError, Signature, ValueType};
use ort::{
    session::SessionInputValue,
    value::{Tensor, TensorElementType},
};

use crate::BackendError;

/// The element type a column has inside ONNX.
pub(crate) fn element_of(field: &Field) -> Result<TensorElementType, BackendError> {
    match field.kind {
        ValueType::Bool | ValueType::Int | ValueType::Float => Ok(TensorElementType::Float32),
        ValueType::Text => Ok(TensorElementType::String),
        ValueType::Timestamp | ValueType::List(_) => Err(no_tensor(field)),
    }
}

/// The inputs of a run, in the order of the signature.
pub(crate) fn tensors(
    signature: &Signature,
    frame: &Frame,
) -> Result<Vec<(String, SessionInputValue<'static>)>, BackendError> {
    signature.inputs.iter().map(|field| Ok((field.name.to_string(), tensor(field, frame)?))).collect()
}

fn tensor(field: &Field, frame: &Frame) -> Result<SessionInputValue<'static>, BackendError> {
    let column = frame.require(&field.name)?;
    if column.kind() != field.kind {
        let (name, found, expected) = (field.name.clone(), column.kind(), field.kind);
        return Err(FrameError::WrongType { name, found, expected }.into());
    }
    let shape = [frame.rows(), 1];
    let floats = match column {
        Column::Bool(v) => v.iter().map(|x| x.map_or(f32::NAN, |x| f32::from(u8::from(x)))).collect(),
        Column::Int(v) => v.iter().map(|x| x.map_or(f32::NAN, |x| x as f32)).collect(),
        Column::Float(v) => v.iter().map(|x| x.map_or(f32::NAN, |x| x as f32)).collect::<Vec<f32>>(),
        Column::Text(v) => {
            let texts: Vec<String> = v.iter().map(|text| lawful(text.as_deref()).to_owned()).collect();
            let tensor = Tensor::from_string_array((shape, &*texts));
            return Ok(SessionInputValue::Owned(
                tensor.map_err(BackendError::runtime("take a text column"))?.into_dyn(),
            ));
        }
        Column::Timestamp(_) | Column::List(..) => return Err(no_tensor(field)),
    };
    let tensor = Tensor::from_array((shape, floats)).map_err(BackendError::runtime("take a column"))?;
    Ok(SessionInputValue::Owned(tensor.into_dyn()))
}

/// Null is the empty text. A text with a NUL byte cannot be handed to ONNX Runtime and is no category of any model
/// of ours, so it is treated like null: both are unknown.
fn lawful(text: Option<&str>) -> &str {
    text.filter(|text| !text.as_bytes().contains(&0)).unwrap_or_default()
}

fn no_tensor(field: &Field) -> BackendError {
    BackendError::NoTensor { column: field.name.to_string(), kind: field.kind }
}
