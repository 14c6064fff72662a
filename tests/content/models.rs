//! `models import`: files of real tools come in as versions that MLflow's client loads, hostile ones do not come in.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{FILES, json_of, put_file, python, run, start_run, support::Server};

#[test]
fn models_of_other_tools_are_registered_and_loaded_by_mlflows_client() {
    let (server, _data) = Server::fresh();
    let folder = tempfile::tempdir().expect("a temporary directory");
    python("imported.py", &["make", folder.path().to_str().expect("a plain path")], &server.url);
    let import = |name: &str, file: &str, more: &[&str]| -> Value {
        let path = folder.path().join(file);
        let (fine, version) =
            json_of(&server, &[&["models", "import", name, path.to_str().expect("a plain path")], more].concat());
        assert!(fine, "{name}");
        version
    };
    let linear = import("linear", "linear.bin", &["--tag", "from=elsewhere", "--description", "by hand"]);
    assert_eq!((&linear["version"], &linear["flavors"]), (&json!(1), &json!(["onnx", "python_function"])), "{linear}");
    assert!(linear["files"]["model.onnx"].is_string() && linear["files"]["MLmodel"].is_string());
    assert!(linear["unsafe_reason"].is_null() && linear["run"].is_string());
    assert!(import("beside", "beside", &[])["files"]["net.weights"].is_string());
    for (name, file) in [("fitted", "fitted.bin"), ("directory", "directory")] {
        let reason = import(name, file, &[])["unsafe_reason"].clone();
        assert!(reason.as_str().is_some_and(|reason| reason.contains("pickle")), "{name}: {reason}");
    }
    assert_eq!(import("linear", "linear.bin", &[])["version"], 2);
    python("imported.py", &["check", folder.path().to_str().expect("a plain path")], &server.url);
    assert!(run(&server, &["models", "verify"]).status.success());
    let ended = server.get("/api/v1/runs?experiment=imports").ok();
    assert!(ended.as_array().expect("runs").iter().all(|run| run["state"] == "finished"), "{ended}");
}

/// What the command says when it refuses a file.
fn refused(server: &Server, path: &Path) -> String {
    let output = run(server, &["models", "import", "hostile", path.to_str().expect("a plain path")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{}: {said}", path.display());
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn a_hostile_file_is_refused_here_and_by_the_server() {
    let (server, _data) = Server::fresh();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut lying = (1_u64 << 63).to_le_bytes().to_vec();
    lying.extend(b"{\"a\":1}");
    let file = folder.path().join("weights");
    fs::write(&file, &lying).expect("written");
    assert!(refused(&server, &file).contains("9223372036854775808"));
    fs::write(&file, b"nothing of the kind").expect("written");
    assert!(refused(&server, &file).contains("no format that is known"));
    let directory = folder.path().join("linked");
    fs::create_dir(&directory).expect("made");
    std::os::unix::fs::symlink("/etc/passwd", directory.join("model.onnx")).expect("linked");
    assert!(refused(&server, &directory).contains("is a link"));
    assert!(refused(&server, &folder.path().join("absent")).contains("absent"));
    assert_eq!(server.get("/api/v1/runs?experiment=imports").ok(), json!([]), "nothing was begun");

    // A client that does not look is told by the server.
    let (id, root) = start_run(&server);
    put_file(&server, &format!("{root}/model/weights"), &lying);
    let import = |body: &Value| server.post("/api/v1/models/hostile/import", body);
    let detail = import(&json!({"run": id, "directory": "model"})).problem(400, "invalid_argument");
    assert!(detail.contains("`weights`") && detail.contains("9223372036854775808"), "{detail}");
    import(&json!({"run": id, "directory": "nothing"})).problem(400, "invalid_argument");
    import(&json!({"run": id, "directory": "../x"})).problem(400, "invalid_argument");
    import(&json!({"run": "0".repeat(32), "directory": "model"})).problem(404, "not_found");
    server.get("/api/v1/models/hostile/versions").problem(404, "not_found");
    let listed = server.get(&format!("{FILES}?path={root}/model")).ok();
    assert_eq!(listed["files"].as_array().map(Vec::len), Some(1), "no MLmodel was written: {listed}");
}
