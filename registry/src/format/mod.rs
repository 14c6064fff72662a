//! Model files, recognised by what is in them and never loaded.
//!
//! Headers are read with limits on everything they say: a hostile file costs a clear error, little memory and little time.
//! The same code runs where a file is sent from and where it is taken.

mod lightgbm;
mod onnx;
mod proto;
mod read;
mod safetensors;
mod ubjson;
mod xgboost;
mod zip;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io};

use serde_json::{Value, json};

pub use self::read::{LocalFile, ReadAt};
use crate::{contents, mlmodel};

/// Most files of one model.
pub const FILES_MAX: usize = 10_000;
/// How much of a file's ends is looked at for signs of code.
const ENDS_BYTES: u64 = 64 << 10;

/// What a file of a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A directory with an `MLmodel`, as MLflow writes it.
    MlflowDirectory,
    Onnx,
    TorchScript,
    Safetensors,
    XgboostJson,
    XgboostUbjson,
    LightGbm,
    Keras,
    /// A pickle, or an archive that holds one.
    Pickle,
}

impl Format {
    /// Its name, which is also the flavour's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MlflowDirectory => "mlflow",
            Self::Onnx => "onnx",
            Self::TorchScript => "torchscript",
            Self::Safetensors => "safetensors",
            Self::XgboostJson | Self::XgboostUbjson => "xgboost",
            Self::LightGbm => "lightgbm",
            Self::Keras => "keras",
            Self::Pickle => "pickle",
        }
    }

    /// What the file is called when it stands alone; `None` where its own name is kept.
    #[must_use]
    pub const fn file_name(self) -> Option<&'static str> {
        match self {
            Self::MlflowDirectory => None,
            Self::Onnx => Some(mlmodel::ONNX_FILE),
            Self::TorchScript => Some("model.pt"),
            Self::Safetensors => Some("model.safetensors"),
            Self::XgboostJson => Some("model.json"),
            Self::XgboostUbjson => Some("model.ubj"),
            Self::LightGbm => Some("model.txt"),
            Self::Keras => Some("model.keras"),
            Self::Pickle => Some("model.pkl"),
        }
    }
}

/// Files that were recognised.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognised {
    pub format: Format,
    /// The file that is the model, or the first of several parts of it.
    pub main: String,
    /// What an `MLmodel` says of it, by flavour; empty where there is an `MLmodel`.
    pub(crate) flavors: BTreeMap<&'static str, Value>,
    /// What must be installed to load it in Python.
    pub(crate) packages: Vec<&'static str>,
    /// In MLflow's form.
    pub(crate) inputs: Option<Vec<Value>>,
    pub(crate) outputs: Option<Vec<Value>>,
}

/// Why files were not recognised.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("`{file}` {problem}")]
    Bad { file: String, problem: String },
    #[error("the files {0}")]
    Unfit(String),
    #[error("could not read `{file}`: {source}")]
    Io { file: String, source: io::Error },
}

impl FormatError {
    /// What to do about it.
    pub const HINT: &'static str = "give one model: ONNX, TorchScript, safetensors, XGBoost (JSON or UBJSON), LightGBM (text), a pickle or Keras \
         file, or a directory that MLflow wrote";
}

/// The same, before the file's name is known.
#[derive(Debug)]
pub(crate) enum Fault {
    Bad(String),
    Io(io::Error),
}

impl Fault {
    fn bad(problem: impl Into<String>) -> Self {
        Self::Bad(problem.into())
    }

    fn of(self, file: &str) -> FormatError {
        let file = file.to_owned();
        match self {
            Self::Bad(problem) => FormatError::Bad { file, problem },
            Self::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                FormatError::Bad { file, problem: "ends before it should".into() }
            }
            Self::Io(source) => FormatError::Io { file, source },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Recognises the files of one model by what is in them; paths are relative to the model's directory.
///
/// # Errors
/// Nothing that is known, more than one model, or a file that lies about itself.
pub fn recognise(files: &BTreeMap<String, Box<dyn ReadAt>>) -> Result<Recognised, FormatError> {
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(FormatError::Unfit(format!("are {} where 1 to {FILES_MAX} are taken", files.len())));
    }
    if let Some(file) = files.get(mlmodel::FILE) {
        return mlflow_directory(file.as_ref());
    }
    let mut found: Vec<(&str, Format)> = Vec::new();
    for (path, file) in files {
        if let Some(format) = format_of(file.as_ref()).map_err(|fault| fault.of(path))? {
            found.push((path, format));
        }
    }
    let Some((main, format)) = found.first().copied() else {
        let only = files.keys().next().filter(|_| files.len() == 1);
        return Err(match only {
            Some(file) => {
                FormatError::Bad { file: file.clone(), problem: "is a model of no format that is known".into() }
            }
            None => FormatError::Unfit("hold no model of a format that is known".into()),
        });
    };
    // A large model may be cut into several safetensors files.
    let one_model = found.len() == 1 || found.iter().all(|(_, format)| *format == Format::Safetensors);
    if !one_model {
        let listed: Vec<String> = found.iter().take(5).map(|(path, f)| format!("`{path}` ({})", f.as_str())).collect();
        return Err(FormatError::Unfit(format!("hold {} models: {}", found.len(), listed.join(", "))));
    }
    for (path, _) in &found[1..] {
        safetensors::read(files[*path].as_ref()).map_err(|fault| fault.of(path))?;
    }
    let directory = main.rsplit_once('/').map(|(directory, _)| format!("{directory}/")).unwrap_or_default();
    let beside = files.iter().filter_map(|(path, file)| {
        let name = path.strip_prefix(&directory)?;
        (path != main && !name.contains('/')).then(|| (name.to_owned(), file.len()))
    });
    describe(format, main, files[main].as_ref(), &beside.collect()).map_err(|fault| fault.of(main))
}

fn mlflow_directory(file: &dyn ReadAt) -> Result<Recognised, FormatError> {
    let read = || {
        if file.len() > contents::MLMODEL_BYTES_MAX {
            return Err(Fault::bad(format!("has more than {} bytes", contents::MLMODEL_BYTES_MAX)));
        }
        let text = read::head(file, contents::MLMODEL_BYTES_MAX)?;
        mlmodel::MlModel::read(&text).ok_or_else(|| Fault::bad("is not an MLmodel file: it lists no flavors"))
    };
    read().map_err(|fault| fault.of(mlmodel::FILE))?;
    Ok(Recognised {
        format: Format::MlflowDirectory,
        main: mlmodel::FILE.to_owned(),
        flavors: BTreeMap::new(),
        packages: Vec::new(),
        inputs: None,
        outputs: None,
    })
}

/// What one file is; `None`: no model.
fn format_of(file: &dyn ReadAt) -> Result<Option<Format>, Fault> {
    let mut ends = read::head(file, ENDS_BYTES)?;
    let known = match &ends[..] {
        head if zip::begins(head) => return archive(&zip::names(file)?),
        head if safetensors::begins(head) => Some(Format::Safetensors),
        head if onnx::begins(head) => Some(Format::Onnx),
        head if lightgbm::begins(head) => Some(Format::LightGbm),
        head if head.starts_with(b"\x89HDF\r\n\x1a\n") => Some(Format::Keras),
        head => xgboost::begins(head).map(|coding| match coding {
            xgboost::Coding::Json => Format::XgboostJson,
            xgboost::Coding::Ubjson => Format::XgboostUbjson,
        }),
    };
    if known.is_some() {
        return Ok(known);
    }
    if file.len() > ENDS_BYTES {
        ends.extend(read::tail(file, ENDS_BYTES)?.0);
    }
    Ok((contents::by_bytes(&ends) == Some(contents::PICKLE)).then_some(Format::Pickle))
}

/// What an archive is, by the names in it.
fn archive(names: &[String]) -> Result<Option<Format>, Fault> {
    let ends = |end: &str| names.iter().any(|name| name.ends_with(end));
    if ends("/constants.pkl") && names.iter().any(|name| name.contains("/code/")) {
        return Ok(Some(Format::TorchScript));
    }
    if names.iter().any(|name| name == "config.json") && ends(".weights.h5") {
        return Ok(Some(Format::Keras));
    }
    Ok(ends(".pkl").then_some(Format::Pickle))
}

fn describe(
    format: Format,
    main: &str,
    file: &dyn ReadAt,
    beside: &BTreeMap<String, u64>,
) -> Result<Recognised, Fault> {
    let mut recognised = Recognised {
        format,
        main: main.to_owned(),
        flavors: BTreeMap::new(),
        packages: Vec::new(),
        inputs: None,
        outputs: None,
    };
    let mut python = None;
    let flavor = match format {
        Format::Onnx => {
            let found = onnx::read(file, beside)?;
            (recognised.inputs, recognised.outputs) = (found.inputs, found.outputs);
            (python, recognised.packages) = (Some("mlflow.onnx"), vec!["onnx", "onnxruntime"]);
            json!({"code": null, "data": main, "opset": found.opset, "providers": ["CPUExecutionProvider"]})
        }
        Format::Safetensors => json!({"data": main, "tensors": safetensors::read(file)?}),
        Format::XgboostJson | Format::XgboostUbjson => {
            let coding = if format == Format::XgboostJson { xgboost::Coding::Json } else { xgboost::Coding::Ubjson };
            let found = xgboost::read(file, coding)?;
            let numbers = found.kinds.iter().all(|kind| matches!(kind.as_str(), "float" | "int" | "q"));
            recognised.inputs = numbers.then(|| columns(&found.features)).flatten();
            (python, recognised.packages) = (Some("mlflow.xgboost"), vec!["xgboost"]);
            let ending = if format == Format::XgboostJson { "json" } else { "ubj" };
            json!({"code": null, "data": main, "model_class": "xgboost.core.Booster", "model_format": ending,
                   "xgb_version": found.version})
        }
        Format::LightGbm => {
            let found = lightgbm::read(file)?;
            recognised.inputs = columns(&found.features);
            (python, recognised.packages) = (Some("mlflow.lightgbm"), vec!["lightgbm"]);
            json!({"code": null, "data": main, "model_class": "lightgbm.basic.Booster", "format": found.version})
        }
        Format::TorchScript => json!({"data": main}),
        // How it is kept is what marks it as unsafe.
        Format::Pickle => json!({"data": main, "serialization_format": "pickle"}),
        Format::Keras | Format::MlflowDirectory => json!({"data": main}),
    };
    recognised.flavors.insert(format.as_str(), flavor);
    if let Some(loader) = python {
        let env = json!({"conda": "conda.yaml", "virtualenv": "python_env.yaml"});
        recognised.flavors.insert(mlmodel::PYTHON, json!({"data": main, "env": env, "loader_module": loader}));
    }
    Ok(recognised)
}

/// Columns of numbers, in MLflow's form; `None` where there are none.
fn columns(names: &[String]) -> Option<Vec<Value>> {
    let column = |name: &String| json!({"type": "double", "name": name, "required": true});
    (!names.is_empty()).then(|| names.iter().map(column).collect())
}
