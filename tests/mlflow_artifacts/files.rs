//! Files and directories, as a browser and the client see them.

use serde_json::json;

use crate::{FILES, get, listed, put, raw::send, run, support::Server};

#[test]
fn a_file_comes_back_with_all_that_a_browser_has_to_know() {
    let (server, _data) = Server::fresh();
    let (run, root) = run(&server);
    let file = format!("{root}/plots/a%20b%E6%A8%A1.svg");
    assert_eq!(put(&server, &file, b"<svg onload='alert(1)'/>").ok().json(), json!({}));
    let got = get(&server, &file).ok();
    assert_eq!(got.body, b"<svg onload='alert(1)'/>");
    let header = |name: &str| got.headers.get(name).map_or("", String::as_str);
    assert_eq!(header("content-type"), "image/svg+xml");
    assert_eq!(header("content-disposition"), "attachment; filename=\"a b_.svg\"; filename*=UTF-8''a%20b%E6%A8%A1.svg");
    assert_eq!((header("x-content-type-options"), header("accept-ranges")), ("nosniff", "bytes"));
    assert_eq!(header("content-length"), "24");
    let tag = header("etag");
    assert_eq!(tag, format!("\"{}\"", domain::Digest::of(&got.body)));
    let address = format!("{FILES}/{file}");
    let head = send(&server, "HEAD", &address, &[], b"");
    assert_eq!((head.status, head.headers["content-length"].as_str(), head.body.len()), (200, "24", 0));
    let known = send(&server, "GET", &address, &[("if-none-match", tag)], b"");
    assert_eq!((known.status, known.body.len(), known.headers["etag"].as_str()), (304, 0, tag));

    for (range, status, body, content_range) in [
        ("bytes=0-3", 206, b"<svg".as_slice(), "bytes 0-3/24"),
        ("bytes=22-", 206, b"/>", "bytes 22-23/24"),
        ("bytes=-2", 206, b"/>", "bytes 22-23/24"),
        ("bytes=20-999", 206, b")'/>", "bytes 20-23/24"),
        ("bytes=5-1", 200, &got.body, ""),
    ] {
        let part = send(&server, "GET", &address, &[("range", range)], b"");
        let found = part.headers.get("content-range").map_or("", String::as_str);
        assert_eq!((part.status, part.body.as_slice(), found), (status, body, content_range), "{range}");
    }
    let behind = send(&server, "GET", &address, &[("range", "bytes=24-")], b"");
    assert_eq!(behind.headers["content-range"], "bytes */24");
    behind.refused(416, "INVALID_PARAMETER_VALUE");

    for page in [
        format!("/get-artifact?run_uuid={run}&path=plots/a%20b%E6%A8%A1.svg"),
        format!("/get-artifact?run_id={run}&path=plots/a%20b%E6%A8%A1.svg"),
        format!("/ajax-api/2.0/mlflow-artifacts/artifacts/{file}"),
    ] {
        let page = send(&server, "GET", &page, &[], b"").ok();
        assert_eq!(
            (page.body, page.headers["content-disposition"].as_str()),
            (got.body.clone(), header("content-disposition"))
        );
    }
    send(&server, "GET", &format!("/get-artifact?run_id={run}&path=plots"), &[], b"")
        .refused(400, "INVALID_PARAMETER_VALUE");
    send(&server, "GET", "/get-artifact?run_id=none&path=x", &[], b"").refused(404, "RESOURCE_DOES_NOT_EXIST");
    put(&server, &file, b"").ok();
    let empty = get(&server, &file).ok();
    assert_eq!((empty.body.len(), empty.headers["content-length"].as_str()), (0, "0"));
}

#[test]
fn directories_are_listed_and_deleted_with_what_is_in_them() {
    let (server, _data) = Server::fresh();
    let (run, root) = run(&server);
    for (file, body) in [("a", "1"), ("d/b", "22"), ("d/e/f", "333"), ("d-x", "4"), ("d/b", "55555")] {
        put(&server, &format!("{root}/{file}"), body.as_bytes()).ok();
    }
    let own = |names: &[(&str, u64)]| names.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect::<Vec<_>>();
    assert_eq!(listed(&server, &root), own(&[("a", 1), ("d/", 0), ("d-x", 1)]));
    assert_eq!(listed(&server, &format!("{root}/d")), own(&[("b", 5), ("e/", 0)]));
    assert_eq!(get(&server, &format!("{root}/d/b")).ok().body, b"55555");
    let list = |path: &str| server.get(&format!("/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}")).ok();
    let root_uri = format!("mlflow-artifacts:/{root}");
    assert_eq!(
        list("d"),
        json!({"root_uri": root_uri, "files": [
            {"path": "d/b", "is_dir": false, "file_size": 5}, {"path": "d/e", "is_dir": true}]})
    );
    assert_eq!((list("a"), list("none")), (json!({"root_uri": root_uri}), json!({"root_uri": root_uri})));
    assert_eq!(server.get(&format!("{FILES}?path=nowhere")).ok(), json!({}));

    get(&server, &format!("{root}/d")).refused(400, "INVALID_PARAMETER_VALUE");
    get(&server, &format!("{root}/none")).refused(404, "RESOURCE_DOES_NOT_EXIST");
    put(&server, &format!("{root}/d"), b"x").refused(400, "INVALID_PARAMETER_VALUE");
    put(&server, &format!("{root}/a/b"), &vec![0; 3 << 20]).refused(400, "INVALID_PARAMETER_VALUE");
    put(&server, "versions/m/1/model.onnx", b"x").refused(400, "INVALID_PARAMETER_VALUE");
    let delete = |path: &str| send(&server, "DELETE", &format!("{FILES}/{path}"), &[], b"").ok().json();
    assert_eq!((delete(&format!("{root}/d")), delete(&format!("{root}/d"))), (json!({}), json!({})));
    assert_eq!(listed(&server, &root), own(&[("a", 1), ("d-x", 1)]));
    assert_eq!(delete(&format!("{root}/")), json!({}), "the client ends a root in a slash");
    assert_eq!(listed(&server, &root), []);

    let presigned = send(&server, "GET", &format!("/api/2.0/mlflow-artifacts/presigned/{root}/a"), &[], b"");
    assert!(
        presigned.refused(501, "NOT_IMPLEMENTED").starts_with("Multipart download is not supported for the current")
    );
}

#[test]
fn a_version_gives_out_its_files() {
    let (server, _data) = Server::fresh();
    let (run, _) = run(&server);
    let new = json!({"run": run, "files": {"model.onnx": "cG9uZA==", "extra/card.md": ""}, "signature": {"inputs": [], "outputs": []}});
    server.post("/api/v1/models/paper/versions", &new).ok();
    let ask = |query: &str| send(&server, "GET", &format!("/model-versions/get-artifact?{query}"), &[], b"");
    let file = ask("name=paper&version=1&path=model.onnx").ok();
    assert_eq!((file.body.as_slice(), file.headers["content-length"].as_str()), (b"pond".as_slice(), "4"));
    ask("name=paper&version=2&path=model.onnx").refused(404, "RESOURCE_DOES_NOT_EXIST");
    ask("name=paper&version=1&path=extra").refused(404, "RESOURCE_DOES_NOT_EXIST");
    ask("name=paper&version=one&path=model.onnx").refused(400, "INVALID_PARAMETER_VALUE");
    ask("name=paper&version=1&path=../../meta.db").refused(400, "INVALID_PARAMETER_VALUE");
}
