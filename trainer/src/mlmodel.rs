//! The `MLmodel` file, as MLflow's clients read it.
//!
//! With it `mlflow.onnx.load_model` and `mlflow.pyfunc.load_model` take a version as one of theirs. The signature is one
//! of tensors, not of columns: only then does the client make of a table's column the `[N, 1]` tensor the graph wants.

use backends::{MODEL_FILE, OUTPUT};
use domain::{Field, Timestamp, ValueType};
use serde::Serialize;
use serde_json::json;

use crate::TrainerError;

pub(crate) const FILE: &str = "MLmodel";

#[derive(Serialize)]
struct MlModel<'a> {
    flavors: Flavors<'a>,
    model_uuid: String,
    signature: Signature,
    utc_time_created: String,
}

#[derive(Serialize)]
struct Flavors<'a> {
    onnx: Onnx<'a>,
    python_function: PythonFunction,
}

#[derive(Serialize)]
struct Onnx<'a> {
    data: &'static str,
    onnx_version: &'a str,
    providers: [&'static str; 1],
}

/// How the client loads a model without being told its kind.
#[derive(Serialize)]
struct PythonFunction {
    data: &'static str,
    loader_module: &'static str,
}

/// Both are JSON inside YAML, as MLflow writes them.
#[derive(Serialize)]
struct Signature {
    inputs: String,
    outputs: String,
}

/// The file's text. `created` is wall time; `onnx_version` the runtime's that proved the model.
pub(crate) fn write(
    job: &domain::JobId,
    inputs: &[Field],
    created: Timestamp,
    onnx_version: &str,
) -> Result<String, TrainerError> {
    let columns: Vec<_> = inputs.iter().map(|field| tensor(element(field.kind), &field.name)).collect();
    let output = json!([tensor("float32", OUTPUT)]);
    let flavors = Flavors {
        onnx: Onnx { data: MODEL_FILE, onnx_version, providers: ["CPUExecutionProvider"] },
        python_function: PythonFunction { data: MODEL_FILE, loader_module: "mlflow.onnx" },
    };
    let file = MlModel {
        flavors,
        model_uuid: job.to_string(),
        signature: Signature { inputs: json!(columns).to_string(), outputs: output.to_string() },
        utc_time_created: created.to_string().trim_end_matches('Z').replace('T', " "),
    };
    serde_yaml_ng::to_string(&file)
        .map_err(|error| TrainerError::Record { what: "MLmodel file", reason: error.to_string() })
}

fn tensor(element: &str, name: &str) -> serde_json::Value {
    json!({"type": "tensor", "tensor-spec": {"dtype": element, "shape": [-1, 1]}, "name": name})
}

/// What a column is inside the graph, in numpy's words.
const fn element(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Bool | ValueType::Int | ValueType::Float => "float32",
        ValueType::Text => "str",
        // No input of a graph is one of these; the fit refuses them before.
        ValueType::Timestamp => "datetime64[us]",
        ValueType::List(_) => "object",
    }
}
