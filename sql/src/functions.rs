//! Functions that read members of JSON texts, such as a prediction's inputs.
//!
//! Named as in the extension `datafusion-functions-json`. What is absent, of another type, or no JSON is null.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder},
    datatypes::DataType,
};
use datafusion::{
    error::{DataFusionError, Result},
    logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf},
};
use serde_json::Value;

/// All of them.
pub(crate) fn all() -> Vec<ScalarUDF> {
    vec![
        member("json_get_float", DataType::Float64, |members| {
            let mut out = Float64Builder::with_capacity(members.len());
            members.iter().for_each(|value| out.append_option(value.as_ref().and_then(Value::as_f64)));
            Arc::new(out.finish())
        }),
        member("json_get_int", DataType::Int64, |members| {
            let mut out = Int64Builder::with_capacity(members.len());
            members.iter().for_each(|value| out.append_option(value.as_ref().and_then(Value::as_i64)));
            Arc::new(out.finish())
        }),
        member("json_get_bool", DataType::Boolean, |members| {
            let mut out = BooleanBuilder::with_capacity(members.len());
            members.iter().for_each(|value| out.append_option(value.as_ref().and_then(Value::as_bool)));
            Arc::new(out.finish())
        }),
        member("json_get_str", DataType::Utf8, |members| {
            let mut out = StringBuilder::new();
            members.iter().for_each(|value| out.append_option(value.as_ref().and_then(Value::as_str)));
            Arc::new(out.finish())
        }),
    ]
}

/// `name(text, member)`.
fn member(name: &str, kind: DataType, build: fn(&[Option<Value>]) -> ArrayRef) -> ScalarUDF {
    let work = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let [texts, names] = arrays.as_slice() else {
            return Err(DataFusionError::Internal("a JSON function without its two arguments".into()));
        };
        let (texts, names) = (texts.as_string::<i32>(), names.as_string::<i32>());
        let found: Vec<Option<Value>> = (0..texts.len())
            .map(|row| {
                if texts.is_null(row) || names.is_null(row) {
                    return None;
                }
                let object: Value = serde_json::from_str(texts.value(row)).ok()?;
                object.get(names.value(row)).cloned()
            })
            .collect();
        Ok(ColumnarValue::Array(build(&found)))
    };
    create_udf(name, vec![DataType::Utf8, DataType::Utf8], kind, Volatility::Immutable, Arc::new(work))
}
