//! Scripts that use the own clients of MLflow and Feast, unmodified.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::root;

/// The Python that has what `tests/NAME/requirements.txt` lists.
pub fn environment(name: &str) -> PathBuf {
    let environment = root().join(".tools").join(name);
    let wanted =
        fs::read(root().join("tests").join(name).join("requirements.txt")).expect("the requirements are there");
    let there = fs::read(environment.join("requirements.txt")).is_ok_and(|installed| installed == wanted);
    assert!(there, "{} lacks {name}'s client, or has another one: run `cargo xtask setup`", environment.display());
    environment.join("bin/python")
}

/// Runs a script of `tests/mlflow` beside an empty home, with nothing of the caller's environment: no proxy, no
/// credentials, no telemetry. What it prints.
#[track_caller]
pub fn script(name: &str, arguments: &[&Path], url: &str) -> String {
    let arguments: Vec<&OsStr> = arguments.iter().map(|argument| argument.as_os_str()).collect();
    script_with(&format!("mlflow/{name}"), &arguments, url, &[])
}

/// The same for any script below `tests`, with more of an environment.
#[track_caller]
pub fn script_with(name: &str, arguments: &[&OsStr], url: &str, variables: &[(&str, &str)]) -> String {
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(environment("mlflow"))
        .arg(root().join("tests").join(name))
        .args(arguments)
        .current_dir(home.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("a PATH"))
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("LANG", "C.UTF-8")
        .env("MLFLOW_TRACKING_URI", url)
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("DO_NOT_TRACK", "true")
        // A 5xx is a fault here, not something to be asked again for minutes.
        .env("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        .env("GIT_PYTHON_REFRESH", "quiet")
        .envs(variables.iter().copied())
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    said.into_owned()
}
