//! Several servers on one database and one bucket.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{bucket::Shared, direct::Upload, get, listed, noise, put, raw::send, run};

#[test]
fn files_written_through_one_server_are_read_through_the_other() {
    let shared = Shared::new();
    let (one, two) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (first, second) = (shared.start(one.path()), shared.start(two.path()));
    let (id, root) = run(&first);
    let (small, large) = (noise(3000, 1), noise(9 << 20, 2));
    put(&first, &format!("{root}/small"), &small).ok();
    put(&second, &format!("{root}/d/large"), &large).ok();
    for server in [&first, &second] {
        assert_eq!(listed(server, &root), [("d/".to_owned(), 0), ("small".to_owned(), 3000)]);
        assert!(get(server, &format!("{root}/small")).ok().body == small);
        assert!(get(server, &format!("{root}/d/large")).ok().body == large);
    }
    // Begun here, completed there.
    let upload = Upload::create(&first, &root, "parts", 1).expect("an answer");
    let sent = upload.send(1, &small);
    let there = Upload::on(&second, upload);
    there.ask("complete", &json!({"parts": [sent]})).expect("an answer").ok();
    assert!(get(&first, &format!("{root}/parts")).ok().body == small);

    for (number, server) in [(1, &second), (2, &first)] {
        let files = json!({"model.onnx": STANDARD.encode(format!("model {number}"))});
        let new = json!({"run": id, "files": files, "signature": {"inputs": [], "outputs": []}});
        assert_eq!(server.post("/api/v1/models/paper/versions", &new).ok()["version"], number);
    }
    for server in [&first, &second] {
        for number in [1, 2] {
            let file = format!("/api/v1/models/paper/versions/{number}/files/model.onnx");
            assert_eq!(server.get(&file).ok(), format!("model {number}"));
            let page = format!("/model-versions/get-artifact?name=paper&version={number}&path=model.onnx");
            assert_eq!(send(server, "GET", &page, &[], b"").ok().body, format!("model {number}").as_bytes());
        }
    }
    drop(first);
    assert!(get(&second, &format!("{root}/small")).ok().body == small, "also when the other is gone");
}

#[test]
fn projects_share_a_bucket_and_none_of_its_objects() {
    let shared = Shared::new();
    let data = tempfile::tempdir().expect("a directory");
    let server = shared.start(data.path());
    server.post("/api/v1/projects", &json!({"name": "vision"})).ok();
    let path = "/api/2.0/mlflow-artifacts/artifacts/x/secret";
    let call = |method: &str, project: &str, body: &[u8]| {
        send(&server, method, path, &[("x-millpond-project", project)], body)
    };
    call("PUT", "vision", b"sees").ok();
    call("GET", "default", b"").refused(404, "RESOURCE_DOES_NOT_EXIST");
    assert_eq!(call("GET", "vision", b"").ok().body, b"sees");
    assert!(!shared.object(b"sees").exists(), "it does not lie with those of the first project");
    let own = shared.object(b"sees");
    let own = shared.folder().join("projects/vision").join(own.strip_prefix(shared.folder()).expect("below"));
    assert_eq!(std::fs::read(own).expect("it lies with its project's"), b"sees");
    call("PUT", "default", b"sees").ok();
    assert!(shared.object(b"sees").exists());
}

#[test]
fn a_large_file_passes_through_little_memory() {
    let shared = Shared::new();
    let data = tempfile::tempdir().expect("a directory");
    let server = shared.start(data.path());
    let (_, root) = run(&server);
    let small = noise(9 << 20, 9);
    put(&server, &format!("{root}/small"), &small).ok();
    assert!(get(&server, &format!("{root}/small")).ok().body == small);
    let before = server.memory_kib("VmHWM");
    let large = noise(100 << 20, 1);
    put(&server, &format!("{root}/large"), &large).ok();
    assert!(get(&server, &format!("{root}/large")).ok().body == large);
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 32 << 10, "100 MiB passed and the server grew by {grown} KiB");
}
