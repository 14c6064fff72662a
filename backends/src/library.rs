//! Finding ONNX Runtime's shared library and starting it, once per process.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Mutex,
};

use ort::environment::Environment;

use crate::BackendError;

const STEM: &str = "libonnxruntime.so";
const TOOLS: &str = ".tools/onnxruntime";
const SWITCH: &str = "ORT_DISABLE_TELEMETRY";

/// The library in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxInfo {
    /// As the file's name states it (`1.32.0`), else `unknown`.
    pub version: String,
    pub path: PathBuf,
}

struct Started {
    info: OnnxInfo,
    environment: Environment,
}

static STARTED: Mutex<Option<Started>> = Mutex::new(None);

/// Tells ONNX Runtime, through its environment variable, to send nothing. Call it first in `main`, before any thread
/// starts and before [`init`]; does nothing where the variable is set already.
pub fn silence_telemetry() {
    if env::var_os(SWITCH).is_some_and(|value| value == "1") {
        return;
    }
    #[expect(unsafe_code, reason = "set_var is sound while there is one thread, which the caller promises")]
    // SAFETY: called at the start of `main` (or of a test, where nothing else writes the environment).
    unsafe {
        env::set_var(SWITCH, "1");
    }
}

/// Loads ONNX Runtime, with telemetry off. The first call decides; later ones return what is loaded.
///
/// Looks at `library` (a file, or a folder that holds it), `ORT_DYLIB_PATH`, beside the executable, then in
/// `.tools/onnxruntime/` of the working directory, of the executable's folder and of all folders above them.
///
/// # Errors
/// When there is none, when it cannot be loaded, and when `library` names another one than is loaded.
pub fn init(library: Option<&Path>) -> Result<OnnxInfo, BackendError> {
    let mut started = STARTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let library = library.filter(|path| !path.as_os_str().is_empty());
    if let Some(started) = &*started {
        let wanted = library.and_then(library_at);
        return match wanted {
            Some(wanted) if !same(&wanted, &started.info.path) => {
                Err(BackendError::OtherLibrary { loaded: started.info.path.clone(), wanted })
            }
            _ => Ok(started.info.clone()),
        };
    }
    let path = find(library)?;
    let bad = |reason: String| BackendError::BadLibrary { path: path.clone(), reason };
    let environment = ort::init_from(&path)
        .map_err(|error| bad(error.to_string()))?
        .with_name("millpond")
        .with_telemetry(false)
        .build()
        .map_err(|error| bad(error.message().to_owned()))?;
    let info = OnnxInfo { version: version_of(&path), path };
    *started = Some(Started { info: info.clone(), environment });
    Ok(info)
}

/// The process's environment, started by the default search where nobody called [`init`].
pub(crate) fn environment() -> Result<Environment, BackendError> {
    init(None)?;
    let started = STARTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(started.as_ref().expect("init left it there").environment.clone())
}

fn find(library: Option<&Path>) -> Result<PathBuf, BackendError> {
    // A place that was named is the only place: falling back silently would run another library than asked for.
    let named = library.map(Path::to_owned).or_else(|| env::var_os("ORT_DYLIB_PATH").map(PathBuf::from));
    if let Some(named) = named.filter(|path| !path.as_os_str().is_empty()) {
        return library_at(&named).ok_or_else(|| BackendError::NoLibrary { looked: vec![named] });
    }
    let exe = env::current_exe().ok();
    let beside = exe.as_deref().and_then(Path::parent).map(Path::to_owned);
    let cwd = env::current_dir().ok();
    let tools = [&cwd, &beside].into_iter().flatten().flat_map(|dir| dir.ancestors().map(|above| above.join(TOOLS)));
    let looked: Vec<PathBuf> = beside.iter().cloned().chain(tools).collect();
    match looked.iter().find_map(|dir| library_at(dir)) {
        Some(found) => Ok(found),
        None => Err(BackendError::NoLibrary { looked }),
    }
}

/// The library `place` is or holds; of several versions the last by name.
fn library_at(place: &Path) -> Option<PathBuf> {
    if place.is_file() {
        return Some(place.to_owned());
    }
    std::fs::read_dir(place)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(STEM)))
        .max()
}

fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// The version at the end of the real file's name.
fn version_of(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real.file_name()
        .and_then(|name| Some(name.to_str()?.split_once(".so.")?.1.to_owned()))
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_an_error_that_names_the_command() {
        use domain::Coded as _;
        let dir = tempfile::tempdir().unwrap();
        let error = find(Some(&dir.path().join("nowhere.so"))).unwrap_err();
        assert!(error.to_string().contains("nowhere.so"), "{error}");
        assert!(error.hint().contains("make setup"), "{}", error.hint());
    }

    #[test]
    fn a_folder_stands_for_the_newest_library_in_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["libonnxruntime.so.1.30.0", "libonnxruntime.so.1.32.0", "libonnxruntime_providers_shared.so"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        let found = find(Some(dir.path())).unwrap();
        assert_eq!(version_of(&found), "1.32.0");
    }
}
