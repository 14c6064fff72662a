//! The `MLmodel` file: what MLflow's clients write beside a model to say what it is, and read to load it.

use std::collections::BTreeMap;

use domain::{Field, ModelFiles, RunId, Signature, Timestamp, ValueType};
use serde::Serialize;
use serde_json::{Value, json};

/// Its name in the version's directory.
pub(crate) const FILE: &str = "MLmodel";
/// What serving loads.
pub(crate) const ONNX_FILE: &str = "model.onnx";
/// The release of MLflow whose form is written.
const SPOKEN: &str = "3.17.2";
/// Flavours whose own loader is one of MLflow's.
pub(crate) const PYTHON: &str = "python_function";
/// What MLflow's client needs to load an ONNX model.
const PACKAGES: [&str; 2] = ["onnx", "onnxruntime"];

/// What an `MLmodel` file says of the files beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct MlModel {
    /// Names of the ways to load it, sorted.
    pub flavors: Vec<String>,
    pub model_uuid: Option<String>,
    /// Inputs, outputs and parameters as they stand there.
    pub stated_signature: Option<Value>,
    /// Path of the input example.
    pub input_example: Option<String>,
    /// Why loading it in Python runs code that came with it.
    pub unsafe_reason: Option<String>,
}

impl MlModel {
    /// Reads the file; `None` when it is no `MLmodel`.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let file: Value = serde_yaml_ng::from_slice(bytes).ok()?;
        let flavors = file.get("flavors")?.as_object()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut names: Vec<String> = flavors.keys().cloned().collect();
        names.sort_unstable();
        Some(Self {
            flavors: names,
            model_uuid: file.get("model_uuid").and_then(text),
            stated_signature: file.get("signature").filter(|value| value.is_object()).map(stated),
            input_example: file.pointer("/saved_input_example_info/artifact_path").and_then(text),
            unsafe_reason: flavors.iter().find_map(|(name, flavor)| runs_code(name, flavor)),
        })
    }

    /// Its signature as columns. A side stays empty where a tensor or a nested type has no column form.
    pub(crate) fn signature(&self) -> Signature {
        let side = |name: &str| self.stated_signature.as_ref().and_then(|stated| columns(stated.get(name)?));
        Signature { inputs: side("inputs").unwrap_or_default(), outputs: side("outputs").unwrap_or_default() }
    }
}

/// The signature's sides, which are JSON inside YAML.
fn stated(signature: &Value) -> Value {
    let read = |side: &Value| match side {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| side.clone()),
        other => other.clone(),
    };
    let sides = signature.as_object().into_iter().flatten();
    sides.filter(|(_, side)| !side.is_null()).map(|(name, side)| (name.clone(), read(side))).collect()
}

/// All columns of a side, or none of them: half a signature would be a false one.
fn columns(side: &Value) -> Option<Vec<Field>> {
    side.as_array()?.iter().map(column).collect()
}

fn column(column: &Value) -> Option<Field> {
    let name = column.get("name")?.as_str()?;
    let kind = match column.get("type")?.as_str()? {
        "boolean" => ValueType::Bool,
        "integer" | "long" => ValueType::Int,
        "float" | "double" => ValueType::Float,
        "string" => ValueType::Text,
        "datetime" => ValueType::Timestamp,
        "tensor" => tensor(column.get("tensor-spec")?)?,
        _ => return None,
    };
    Some(Field::new(name, kind))
}

/// The type of a tensor that is a column: any number of rows, one value each.
fn tensor(spec: &Value) -> Option<ValueType> {
    let shape: Vec<i64> = spec.get("shape")?.as_array()?.iter().map(Value::as_i64).collect::<Option<_>>()?;
    if !matches!(shape[..], [-1] | [-1, 1]) {
        return None;
    }
    match spec.get("dtype")?.as_str()? {
        "bool" => Some(ValueType::Bool),
        "str" | "object" => Some(ValueType::Text),
        kind if kind.starts_with("float") => Some(ValueType::Float),
        kind if kind.starts_with("int") || kind.starts_with("uint") => Some(ValueType::Int),
        _ => None,
    }
}

/// Why loading a flavour runs code that came with the model.
fn runs_code(name: &str, flavor: &Value) -> Option<String> {
    let set = |key: &str| flavor.get(key).filter(|value| !matches!(value, Value::Null | Value::Bool(false)));
    let text = |key: &str| set(key).and_then(Value::as_str).unwrap_or_default();
    if set("code").is_some_and(|code| code != "") {
        return Some(format!("its flavour `{name}` brings code of its own"));
    }
    if set("python_model").is_some() || set("model_code_path").is_some() || set("streamable_model_code").is_some() {
        return Some(format!("its flavour `{name}` is a Python object or program of its maker's"));
    }
    if ["pickle", "cloudpickle", "dill", "joblib"].contains(&text("serialization_format"))
        || set("pickled_model").is_some()
        || set("pickle_module_name").is_some()
    {
        return Some(format!("its flavour `{name}` is kept as a pickle"));
    }
    let loader = text("loader_module");
    if name == PYTHON && !loader.is_empty() && loader != "mlflow" && !loader.starts_with("mlflow.") {
        return Some(format!("its flavour `{name}` is loaded by `{loader}`, which is none of MLflow's"));
    }
    None
}

#[derive(Serialize)]
struct Written<'a> {
    flavors: BTreeMap<&'static str, Value>,
    mlflow_version: &'static str,
    model_uuid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Sides>,
    utc_time_created: String,
}

/// JSON inside YAML, as MLflow writes it.
#[derive(Serialize)]
struct Sides {
    inputs: Option<String>,
    outputs: Option<String>,
    params: Option<String>,
}

/// What an `MLmodel` is to say.
pub(crate) struct Description<'a> {
    pub flavors: BTreeMap<&'static str, Value>,
    /// What must be installed beside MLflow's client to load it.
    pub packages: &'a [&'static str],
    /// In MLflow's form.
    pub inputs: Option<Vec<Value>>,
    pub outputs: Option<Vec<Value>>,
    pub model_uuid: &'a str,
    pub run: Option<RunId>,
    pub now: Timestamp,
}

/// The files with which MLflow's client loads a model: the `MLmodel` and what it needs installed, in each of the forms its
/// tools read.
pub(crate) fn files(description: Description<'_>) -> [(&'static str, String); 4] {
    let Description { flavors, packages, inputs, outputs, model_uuid, run, now } = description;
    let side = |columns: Option<Vec<Value>>| columns.map(|columns| Value::from(columns).to_string());
    let stated = inputs.is_some() || outputs.is_some();
    let signature = stated.then(|| Sides { inputs: side(inputs), outputs: side(outputs), params: None });
    let written = Written {
        flavors,
        mlflow_version: SPOKEN,
        model_uuid,
        run_id: run.map(|run| run.to_string()),
        signature,
        utc_time_created: now.to_string().trim_end_matches('Z').replace('T', " "),
    };
    let mut pip = vec![format!("mlflow=={SPOKEN}")];
    pip.extend(packages.iter().map(|name| (*name).to_owned()));
    let conda = json!({
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": ["python>=3.10", "pip", {"pip": pip}],
    });
    let env = json!({
        "python": "3.10",
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": ["-r requirements.txt"],
    });
    [
        (FILE, yaml(&written)),
        ("requirements.txt", pip.join("\n") + "\n"),
        ("conda.yaml", yaml(&conda)),
        ("python_env.yaml", yaml(&env)),
    ]
}

/// Adds what MLflow's client needs to load a `model.onnx`, where it is not there already.
pub(crate) fn complete(
    files: &mut ModelFiles,
    signature: &Signature,
    model_uuid: &str,
    run: Option<RunId>,
    now: Timestamp,
) {
    if !files.contains_key(ONNX_FILE) || files.contains_key(FILE) {
        return;
    }
    let python = json!({
        "data": ONNX_FILE,
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": "mlflow.onnx",
    });
    let onnx = json!({"code": null, "data": ONNX_FILE, "providers": ["CPUExecutionProvider"]});
    let (inputs, outputs) = sides(signature).unzip();
    let description = Description {
        flavors: BTreeMap::from([("onnx", onnx), (PYTHON, python)]),
        packages: &PACKAGES,
        inputs,
        outputs,
        model_uuid,
        run,
        now,
    };
    for (name, text) in self::files(description) {
        files.entry(name.to_owned()).or_insert_with(|| text.into_bytes().into());
    }
}

fn yaml(value: &impl Serialize) -> String {
    serde_yaml_ng::to_string(value).expect("maps with text keys can be written as YAML")
}

/// The model's columns as the tensors they are to ONNX Runtime: one `[N, 1]` tensor of floats or texts each. Named as
/// tensors, MLflow's client hands them over in that shape, also those of a data frame; as plain columns it would not.
fn sides(signature: &Signature) -> Option<(Vec<Value>, Vec<Value>)> {
    let side = |fields: &[Field]| -> Option<Vec<Value>> {
        let tensor = |field: &Field| {
            let kind = match field.kind {
                ValueType::Bool | ValueType::Int | ValueType::Float => "float32",
                ValueType::Text => "str",
                ValueType::Timestamp | ValueType::List(_) => return None,
            };
            Some(json!({"type": "tensor", "tensor-spec": {"dtype": kind, "shape": [-1, 1]}, "name": field.name}))
        };
        let list: Vec<Value> = fields.iter().map(tensor).collect::<Option<_>>()?;
        (!list.is_empty()).then_some(list)
    };
    Some((side(&signature.inputs)?, side(&signature.outputs)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKLEARN: &str = r#"
artifact_path: model
flavors:
  python_function:
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.sklearn
    model_path: model.pkl
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
model_uuid: 4b1f
saved_input_example_info:
  artifact_path: input_example.json
  type: dataframe
signature:
  inputs: '[{"type": "double", "name": "alcohol", "required": true}, {"type": "long", "name": "age"}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
  params: null
"#;

    #[test]
    fn what_a_client_wrote_is_understood() {
        let read = MlModel::read(SKLEARN.as_bytes()).unwrap();
        assert_eq!(read.flavors, ["python_function", "sklearn"]);
        assert_eq!(
            (read.model_uuid.as_deref(), read.input_example.as_deref()),
            (Some("4b1f"), Some("input_example.json"))
        );
        assert!(read.unsafe_reason.as_ref().unwrap().contains("`sklearn` is kept as a pickle"));
        let signature = read.signature();
        assert_eq!(signature.inputs, [Field::new("alcohol", ValueType::Float), Field::new("age", ValueType::Int)]);
        assert_eq!(signature.outputs, [], "a tensor without a name is no column");
        let stated = read.stated_signature.unwrap();
        assert_eq!(stated["outputs"][0]["tensor-spec"]["dtype"], "int64", "but it is kept as it was stated");
        assert!(stated.get("params").is_none());
    }

    #[test]
    fn a_flavour_that_brings_code_is_known_by_its_keys() {
        let reason = |flavors: &str| MlModel::read(format!("flavors: {flavors}").as_bytes()).unwrap().unsafe_reason;
        for flavors in [
            "{python_function: {loader_module: mlflow.onnx, code: code}}",
            "{python_function: {loader_module: mlflow.pyfunc.model, python_model: python_model.pkl}}",
            "{python_function: {loader_module: mine}}",
            "{python_function: {loader_module: mlflowx}}",
            "{sklearn: {serialization_format: pickle}}",
            "{pytorch: {pickle_module_name: mlflow.pytorch.pickle_module}}",
        ] {
            assert!(reason(flavors).is_some(), "{flavors}");
        }
        assert_eq!(
            reason("{onnx: {code: null, data: model.onnx}, python_function: {loader_module: mlflow.onnx}}"),
            None
        );
    }

    #[test]
    fn what_is_no_mlmodel_file_is_told_from_one() {
        for bad in ["", "[1, 2]", "flavors: 3", "a: b", "\t", "flavors: {a: *b}"] {
            assert_eq!(MlModel::read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(MlModel::read(&[0xff, 0xfe, 0]), None);
    }

    #[test]
    fn what_we_write_reads_back_and_is_written_once() {
        let inputs = vec![Field::new("distance", ValueType::Int), Field::new("city", ValueType::Text)];
        let signature = Signature { inputs, outputs: vec![Field::new("probability", ValueType::Float)] };
        let mut files: ModelFiles = [(ONNX_FILE.to_owned(), b"x".as_slice().into())].into();
        let run = RunId::mint();
        complete(&mut files, &signature, "abc", Some(run), "2013-04-01T00:00:00Z".parse().unwrap());
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(names, [FILE, "conda.yaml", ONNX_FILE, "python_env.yaml", "requirements.txt"]);
        let read = MlModel::read(&files[FILE]).unwrap();
        assert_eq!((read.flavors.clone(), read.unsafe_reason.clone()), (vec!["onnx".into(), PYTHON.into()], None));
        assert_eq!(read.signature().inputs[0], Field::new("distance", ValueType::Float), "as ONNX Runtime takes it");
        let text = std::str::from_utf8(&files[FILE]).unwrap();
        assert!(text.contains("utc_time_created: 2013-04-01 00:00:00") && text.contains(&run.to_string()), "{text}");
        let before = files.clone();
        complete(&mut files, &Signature::default(), "def", None, Timestamp::from_micros(0));
        assert_eq!(files, before, "a file that is there is its maker's");
        let mut other: ModelFiles = [("weights.bin".to_owned(), b"x".as_slice().into())].into();
        complete(&mut other, &signature, "abc", None, Timestamp::from_micros(0));
        assert_eq!(other.len(), 1);
    }
}
