//! The `MLmodel` file, as MLflow's clients read it.

use std::collections::BTreeMap;

use backends::{MODEL_FILE, OUTPUT};
use domain::{Field, Timestamp, ValueType};
use serde::Serialize;
use serde_json::json;

use crate::TrainerError;

pub(crate) const FILE: &str = "MLmodel";

#[derive(Serialize)]
struct MlModel<'a> {
    flavors: BTreeMap<&'static str, Flavor<'a>>,
    model_uuid: String,
    signature: Signature,
    utc_time_created: String,
}

#[derive(Serialize)]
struct Flavor<'a> {
    data: &'static str,
    onnx_version: &'a str,
    providers: [&'static str; 1],
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
    let columns: Vec<_> = inputs
        .iter()
        .map(|field| json!({"type": mlflow_type(field.kind), "name": field.name, "required": false}))
        .collect();
    let output = json!([{"type": "float", "name": OUTPUT, "required": true}]);
    let onnx = Flavor { data: MODEL_FILE, onnx_version, providers: ["CPUExecutionProvider"] };
    let file = MlModel {
        flavors: BTreeMap::from([("onnx", onnx)]),
        model_uuid: job.to_string(),
        signature: Signature { inputs: json!(columns).to_string(), outputs: output.to_string() },
        utc_time_created: created.to_string().trim_end_matches('Z').replace('T', " "),
    };
    serde_yaml_ng::to_string(&file)
        .map_err(|error| TrainerError::Record { what: "MLmodel file", reason: error.to_string() })
}

const fn mlflow_type(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Bool => "boolean",
        ValueType::Int => "long",
        ValueType::Float => "double",
        ValueType::Text => "string",
        ValueType::Timestamp => "datetime",
    }
}
