use std::{fs, path::Path};

use serde_json::json;

use crate::{json_of, register, run, start_run, support::Server};

fn blob(data: &Path, digest: &str) -> std::path::PathBuf {
    data.join("blobs").join(&digest[..2]).join(&digest[2..])
}

#[test]
fn a_flipped_bit_is_found_named_and_told() {
    let (server, data) = Server::fresh();
    let (id, _) = start_run(&server);
    register(&server, "credit", &id, &[("model.onnx", b"first"), ("card.md", b"# one")]);
    let second = register(&server, "credit", &id, &[("model.onnx", b"second"), ("card.md", b"# two")]);
    register(&server, "other%20model", &id, &[("model.onnx", b"third")]);
    let (fine, report) = json_of(&server, &["models", "verify"]);
    assert!(fine && report["whole"] == true, "{report}");
    let files = report["files"].as_array().expect("files").len();

    let digest = second["files"]["model.onnx"].as_str().expect("a digest");
    let path = blob(data.path(), digest);
    let mut bytes = fs::read(&path).expect("the blob is there");
    bytes[3] ^= 0x10;
    fs::write(&path, bytes).expect("it can be damaged");
    fs::remove_file(blob(data.path(), second["files"]["card.md"].as_str().expect("a digest"))).expect("it is there");

    let (fine, report) = json_of(&server, &["models", "verify"]);
    assert!(!fine && report["whole"] == false);
    let all = report["files"].as_array().expect("files");
    assert_eq!(all.len(), files);
    let bad: Vec<_> = all.iter().filter(|file| file["state"] != "whole").collect();
    assert_eq!(bad.len(), 2, "{bad:?}");
    for file in &bad {
        assert_eq!((&file["model"], &file["version"]), (&json!("credit"), &json!(2)));
        let expected = if file["path"] == "model.onnx" { "damaged" } else { "missing" };
        assert_eq!(file["state"], expected);
    }
    for which in ["credit", "credit/2"] {
        let output = run(&server, &["models", "verify", which]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{which}");
        assert!(text.contains("credit/2") && text.contains("model.onnx") && text.contains("do not match"), "{text}");
        assert!(!text.contains("card.md") || text.contains("gone"), "{text}");
    }
    assert!(run(&server, &["models", "verify", "credit/1"]).status.success());
    assert!(run(&server, &["models", "verify", "other model"]).status.success());

    let events = server.get("/api/v1/events?limit=1000").ok();
    let told = events.as_array().expect("events").iter().filter(|event| event["kind"] == "version.damaged");
    assert!(told.clone().count() >= 2 && told.clone().all(|event| event["subject"] == "model/credit/2"));
}

#[test]
fn what_does_not_exist_is_said_to_be_unknown() {
    let (server, _data) = Server::fresh();
    let (id, _) = start_run(&server);
    register(&server, "credit", &id, &[("model.onnx", b"first")]);
    let verify = |path: &str| server.post(path, &json!(null));
    verify("/api/v1/models/credit/versions/9/verify").problem(404, "not_found");
    verify("/api/v1/models/debit/versions/1/verify").problem(404, "not_found");
    verify("/api/v1/models/credit/versions/1/verify?file=nothing").problem(404, "not_found");
    verify("/api/v1/models/credit/versions/1/verify?fil=model.onnx").problem(400, "invalid_argument");
    for which in ["debit", "credit/9", "credit/x"] {
        let output = run(&server, &["models", "verify", which]);
        assert_eq!(output.status.code(), Some(1), "{which}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{which}");
    }
}
