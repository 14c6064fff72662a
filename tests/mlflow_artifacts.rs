//! Artifacts through the real binary: what clients send and see, byte by byte, and what is left when they break off.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use support::{Server, eventually};

const FILES: &str = "/api/2.0/mlflow-artifacts/artifacts";
const UPLOADS: &str = "/api/2.0/mlflow-artifacts/mpu";

/// An answer, to the last byte that came.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str) -> String {
        let body = self.json();
        assert_eq!((self.status, body["error_code"].as_str()), (status, Some(code)), "{body}");
        body["message"].as_str().expect("a message").to_owned()
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{} {}", self.status, String::from_utf8_lossy(&self.body));
        self
    }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream
}

fn head(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let host = server.url.trim_start_matches("http://");
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text + "\r\n"
}

/// `None` when the connection breaks before an answer.
fn reply(mut stream: TcpStream) -> Option<Reply> {
    let mut bytes = Vec::new();
    // A reset after the answer takes nothing from it.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    Some(Reply { status, headers: lines.filter_map(pair).collect(), body: bytes.split_off(end + 4) })
}

/// A request as it is written here: nothing is encoded, normalised or checked on the way.
fn try_send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Reply> {
    let length = body.len().to_string();
    let mut headers = headers.to_vec();
    if !body.is_empty() || method == "PUT" || method == "POST" {
        headers.push(("content-length", &length));
    }
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    stream.write_all(head(server, method, path, &headers).as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    reply(stream)
}

fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    try_send(server, method, path, headers, body).expect("an answer")
}

fn post(server: &Server, path: &str, body: &Value) -> Reply {
    send(server, "POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
}

fn put(server: &Server, path: &str, body: &[u8]) -> Reply {
    send(server, "PUT", &format!("{FILES}/{path}"), &[], body)
}

fn get(server: &Server, path: &str) -> Reply {
    send(server, "GET", &format!("{FILES}/{path}"), &[], b"")
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What a listing shows: names with lengths, directories with a `/`.
fn listed(server: &Server, directory: &str) -> Vec<(String, u64)> {
    let answer = send(server, "GET", &format!("{FILES}?path={}", encoded(directory)), &[], b"").ok().json();
    let files = answer["files"].as_array().cloned().unwrap_or_default();
    files
        .iter()
        .map(|file| {
            let name = file["path"].as_str().expect("a path");
            let slash = if file["is_dir"].as_bool().expect("a truth value") { "/" } else { "" };
            (format!("{name}{slash}"), file["file_size"].as_u64().unwrap_or(0))
        })
        .collect()
}

/// A new run, and the path of its root.
fn run(server: &Server) -> (String, String) {
    let run = server.post("/api/v1/runs", &json!({"experiment": "x"})).ok()["id"].as_str().expect("an id").to_owned();
    let listing = server.get(&format!("/api/2.0/mlflow/artifacts/list?run_id={run}")).ok();
    let root = listing["root_uri"].as_str().expect("a root").strip_prefix("mlflow-artifacts:/").expect("it is ours");
    (run, root.to_owned())
}

/// Bytes that no other seed gives.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Waits until nothing half-written is left on disk.
fn no_scratch(data: &Path) {
    let scratch = data.join("blobs").join("tmp");
    eventually("unfinished files to go", || {
        fs::read_dir(&scratch).expect("it is there").next().is_none().then_some(())
    });
}

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

/// In kilobytes: `VmRSS` or, at its highest so far, `VmHWM`.
fn memory(server: &Server, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(what)).expect("a line");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse().ok()).expect("a number")
}

#[test]
fn a_large_file_passes_through_little_memory() {
    let (server, _data) = Server::fresh();
    let (_, root) = run(&server);
    let small = noise(1 << 20, 9);
    put(&server, &format!("{root}/small"), &small).ok();
    assert!(get(&server, &format!("{root}/small")).body == small);
    let before = memory(&server, "VmHWM");
    let large = noise(64 << 20, 1);
    put(&server, &format!("{root}/large"), &large).ok();
    assert!(get(&server, &format!("{root}/large")).ok().body == large);
    let grown = memory(&server, "VmHWM").saturating_sub(before);
    assert!(grown < 16 << 10, "64 MiB passed and the server grew by {grown} KiB");
}

#[test]
fn an_upload_that_breaks_off_or_lies_is_never_seen() {
    let (server, data) = Server::fresh();
    let (_, root) = run(&server);
    let body = noise(512 << 10, 2);
    let address = format!("{FILES}/{root}/cut");
    let length = body.len().to_string();
    let too_long = (body.len() + 1).to_string();
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    for kept in (0..body.len()).step_by(64 << 10).chain([body.len() - 1, body.len()]) {
        let plain = if kept == body.len() { &too_long } else { &length };
        let mut stream = connect(&server);
        stream.write_all(head(&server, "PUT", &address, &[("content-length", plain)]).as_bytes()).expect("sent");
        stream.write_all(&body[..kept]).expect("sent");
        drop(stream);
        // In chunks, of which the last does not come; then the client listens.
        let mut stream = connect(&server);
        stream.write_all(head(&server, "PUT", &address, &[("transfer-encoding", "chunked")]).as_bytes()).expect("sent");
        stream.write_all(&chunk(&body[..kept.max(1)])).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
        if let Some(reply) = reply(stream) {
            assert_eq!(reply.status, 400, "{reply:?}");
        }
        assert_eq!(listed(&server, &root), []);
    }
    let other = domain::Digest::of(b"other").to_string();
    let lie = |digest: &str| send(&server, "PUT", &address, &[("x-content-sha256", digest)], &body);
    assert!(lie(&other).refused(400, "INVALID_PARAMETER_VALUE").contains(&other));
    lie("no digest").refused(400, "INVALID_PARAMETER_VALUE");
    no_scratch(data.path());
    assert_eq!(listed(&server, &root), []);
    lie(&domain::Digest::of(&body).to_string()).ok();
    // In chunks and whole.
    let mut stream = connect(&server);
    stream.write_all(head(&server, "PUT", &address, &[("transfer-encoding", "chunked")]).as_bytes()).expect("sent");
    stream.write_all(&[chunk(b"in "), chunk(b"chunks"), b"0\r\n\r\n".to_vec()].concat()).expect("sent");
    reply(stream).expect("an answer").ok();
    assert_eq!(get(&server, &format!("{root}/cut")).body, b"in chunks");
}

#[test]
fn a_transfer_may_last_as_long_as_it_moves() {
    let data = tempfile::tempdir().expect("a directory");
    let flags = ["server.request_deadline=500ms", "server.transfer_idle=1s", "server.max_artifact_bytes=1 MiB"];
    let flags: Vec<_> = flags.iter().flat_map(|flag| ["--set", flag]).collect();
    let server = Server::start_with(data.path(), &flags);
    let (_, root) = run(&server);
    let upload = |name: &str, bytes: &[u8]| {
        let mut stream = connect(&server);
        let address = format!("{FILES}/{root}/{name}");
        stream.write_all(head(&server, "PUT", &address, &[("content-length", "5")]).as_bytes()).expect("sent");
        for byte in bytes {
            thread::sleep(Duration::from_millis(300));
            stream.write_all(&[*byte]).expect("sent");
        }
        reply(stream).expect("an answer")
    };
    upload("slow", b"ducks").ok();
    let still = upload("still", b"du");
    assert!(still.refused(408, "DEADLINE_EXCEEDED").contains("server.transfer_idle"));
    for (name, size, chunked) in [("large", 2 << 20, false), ("chunked", 2 << 20, true)] {
        let address = format!("{FILES}/{root}/{name}");
        let refused = if chunked {
            let mut stream = connect(&server);
            stream
                .write_all(head(&server, "PUT", &address, &[("transfer-encoding", "chunked")]).as_bytes())
                .expect("sent");
            stream.write_all(format!("{size:x}\r\n").as_bytes()).expect("sent");
            stream.write_all(&noise(size, 3)).expect("sent");
            stream.write_all(b"\r\n0\r\n\r\n").expect("sent");
            reply(stream).expect("an answer")
        } else {
            send(&server, "PUT", &address, &[], &noise(size, 3))
        };
        assert!(refused.refused(413, "BAD_REQUEST").contains("server.max_artifact_bytes"));
    }
    assert_eq!(listed(&server, &root), [("slow".to_owned(), 5)]);
    no_scratch(data.path());

    // On the way out: more than the buffers of both sides hold, and nobody reads.
    let body = noise(1 << 20, 5);
    let mut parts = Vec::new();
    let created =
        post(&server, &format!("{UPLOADS}/create/{root}"), &json!({"path": "out", "num_parts": 24})).ok().json();
    for credential in created["credentials"].as_array().expect("a list") {
        let path = credential["url"].as_str().and_then(|url| url.strip_prefix(&server.url)).expect("an address here");
        let sent = send(&server, "PUT", path, &[], &body).ok();
        parts.push(json!({"part_number": credential["part_number"], "etag": sent.headers["etag"]}));
    }
    let complete = json!({"path": "out", "upload_id": created["upload_id"], "parts": parts});
    post(&server, &format!("{UPLOADS}/complete/{root}"), &complete).ok();
    let mut stream = connect(&server);
    stream.write_all(head(&server, "GET", &format!("{FILES}/{root}/out"), &[]).as_bytes()).expect("sent");
    thread::sleep(Duration::from_secs(4));
    let cut = reply(stream).expect("its beginning");
    assert!(cut.body.len() < 24 << 20, "the server held on to a reader that does not read");
    assert_eq!(get(&server, &format!("{root}/out")).ok().body.len(), 24 << 20);
}

#[test]
fn no_path_leads_out_however_it_is_encoded() {
    let (server, data) = Server::fresh();
    let (_, root) = run(&server);
    fs::write(data.path().join("secret"), "secret").expect("written");
    let ways_out = [
        "../secret",
        "..",
        "a/../../secret",
        "./secret",
        "/etc/passwd",
        "//proc/self/root/etc/passwd",
        "file:///etc/passwd",
        "C:/x",
        "..\\secret",
        "a\\..\\b",
        "#/../secret",
        "a#b",
        "?a=../secret",
        "a\0b",
        "a\r\nx: y",
        "a//b",
    ];
    let mut forms = Vec::new();
    for way in ways_out {
        let once = encoded(way);
        let twice = once.replace('%', "%25");
        forms.extend([once, twice.clone(), twice.replace('%', "%25")]);
    }
    forms.extend(
        [
            "../secret",
            "%2e%2e/secret",
            "%2E%2e%2fsecret",
            "..%2fsecret",
            "..%5csecret",
            "..%255csecret",
            "%252e%252e/secret",
            "a/%2e/b",
        ]
        .map(str::to_owned),
    );
    // Overlong UTF-8, and what is no UTF-8 at all.
    forms.extend(["%c0%ae%c0%ae/secret", "%c0%af", "%ff", "%e0%80%ae"].map(str::to_owned));
    for form in &forms {
        let path = format!("{root}/{form}");
        for method in ["PUT", "GET", "DELETE"] {
            for at in [form, &path] {
                // A second slash in a row is a way out of its own.
                let refused = send(&server, method, &format!("{FILES}/{at}"), &[], b"");
                let message = refused.refused(400, "INVALID_PARAMETER_VALUE");
                assert!(message.starts_with("Invalid path"), "{method} {at}: {message}");
            }
        }
        for call in ["create", "complete", "abort"] {
            let body = json!({"path": "x", "num_parts": 1, "upload_id": "0", "parts": []});
            post(&server, &format!("{UPLOADS}/{call}/{path}"), &body).refused(400, "INVALID_PARAMETER_VALUE");
        }
    }
    for way in ways_out.iter().filter(|way| !way.is_empty()) {
        let query = encoded(way);
        for route in [
            format!("{FILES}?path={query}"),
            format!("/get-artifact?run_id=x&path={query}"),
            format!("/model-versions/get-artifact?name=x&version=1&path={query}"),
            format!("/api/2.0/mlflow/artifacts/list?run_id=x&path={query}"),
            format!("/api/2.0/mlflow/logged-models/m-1/artifacts/directories?artifact_directory_path={query}"),
        ] {
            let message = send(&server, "GET", &route, &[], b"").refused(400, "INVALID_PARAMETER_VALUE");
            assert!(message.starts_with("Invalid path"), "{route}: {message}");
        }
        let body = json!({"path": way, "num_parts": 1});
        let created = post(&server, &format!("{UPLOADS}/create/{root}"), &body);
        // Its last name counts, which may be a plain one.
        assert!(matches!(created.status, 200 | 400), "{way}: {created:?}");
    }
    assert_eq!(listed(&server, ""), []);
    no_scratch(data.path());
}

#[test]
fn hostile_names_are_names() {
    let (server, _data) = Server::fresh();
    let (_, root) = run(&server);
    let names = [
        "<script>alert(1)<",
        "CON",
        "-rf",
        "%s%n%x",
        "x' OR '1'='1",
        "\u{202e}gpj.exe",
        "🦆",
        "e\u{301}",
        "é",
        "a;b",
        "$(id)",
        "`id`",
        "100%",
        "a b",
        "|",
        "~",
        "*",
        "=cmd|' x",
        "\"q\"",
    ];
    for name in names {
        put(&server, &format!("{root}/{}", encoded(name)), name.as_bytes()).ok();
    }
    let mut expected: Vec<_> = names.map(|name| (name.to_owned(), name.len() as u64)).into();
    expected.sort();
    assert_eq!(listed(&server, &root), expected);
    for name in names {
        let got = get(&server, &format!("{root}/{}", encoded(name))).ok();
        assert_eq!(got.body, name.as_bytes(), "{name}");
        let disposition = &got.headers["content-disposition"];
        assert!(disposition.starts_with("attachment; filename=\"") && disposition.is_ascii(), "{disposition}");
    }
    let long = "x".repeat(300);
    put(&server, &format!("{root}/{long}"), b"").refused(400, "INVALID_PARAMETER_VALUE");
    put(&server, &format!("{root}/{}", long.chars().take(255).collect::<String>()), b"").ok();
}

#[test]
fn a_large_file_comes_in_parts() {
    let (server, data) = Server::fresh();
    let (_, root) = run(&server);
    let body = noise(25 << 20, 4);
    let (name, directory) = ("weights.bin", format!("{root}/model"));
    let ask = |call: &str, extra: Value| {
        let mut body = json!({"path": format!("somewhere/else/{name}")});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        post(&server, &format!("{UPLOADS}/{call}/{directory}"), &body)
    };
    let created = ask("create", json!({"num_parts": 3})).ok().json();
    let upload = created["upload_id"].clone();
    let credentials = created["credentials"].as_array().expect("a list").clone();
    assert_eq!(credentials.len(), 3);
    // Side by side, the last first.
    let parts: Vec<Value> = thread::scope(|scope| {
        let send_part = |credential: &Value| {
            let number = credential["part_number"].as_u64().expect("a number");
            let url = credential["url"].as_str().expect("an address").to_owned();
            let path = url.strip_prefix(&server.url).unwrap_or_else(|| panic!("{url}")).to_owned();
            let part = body.chunks(10 << 20).nth(number as usize - 1).expect("a part").to_vec();
            let server = &server;
            scope.spawn(move || {
                let sent = send(server, "PUT", &path, &[], &part).ok();
                json!({"part_number": number, "etag": sent.headers["etag"], "url": url})
            })
        };
        let sending: Vec<_> = credentials.iter().rev().map(send_part).collect();
        sending.into_iter().map(|sending| sending.join().expect("sent")).collect()
    });
    assert_eq!(listed(&server, &directory), []);
    let mut wrong = parts.clone();
    wrong[0]["etag"] = parts[1]["etag"].clone();
    for bad in [&wrong[..], &parts[..2], &[]] {
        ask("complete", json!({"upload_id": upload, "parts": bad})).refused(400, "INVALID_PARAMETER_VALUE");
    }
    for _ in 0..2 {
        assert_eq!(ask("complete", json!({"upload_id": upload, "parts": parts})).ok().json(), json!({}));
    }
    assert_eq!(listed(&server, &directory), [(name.to_owned(), body.len() as u64)]);
    assert!(get(&server, &format!("{directory}/{name}")).ok().body == body);

    let aborted = ask("create", json!({"num_parts": "2"})).ok().json();
    let part = aborted["credentials"][1]["url"]
        .as_str()
        .expect("an address")
        .strip_prefix(&server.url)
        .expect("here")
        .to_owned();
    send(&server, "PUT", &part, &[], b"part").ok();
    for _ in 0..2 {
        assert_eq!(ask("abort", json!({"upload_id": aborted["upload_id"]})).ok().json(), json!({}));
    }
    send(&server, "PUT", &part, &[], b"part").refused(404, "RESOURCE_DOES_NOT_EXIST");
    ask("complete", json!({"upload_id": aborted["upload_id"], "parts": []})).refused(404, "RESOURCE_DOES_NOT_EXIST");
    ask("complete", json!({"upload_id": "../x", "parts": []})).refused(404, "RESOURCE_DOES_NOT_EXIST");
    for bad in [json!(0), json!(10_001), json!("x")] {
        ask("create", json!({"num_parts": bad})).refused(400, "INVALID_PARAMETER_VALUE");
    }
    no_scratch(data.path());
}

#[test]
fn acknowledged_files_survive_being_killed_and_nothing_else_is_listed() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(data.path());
    let (_, root) = run(&server);
    // File -> digest, as acknowledged.
    let mut acked: BTreeMap<String, domain::Digest> = BTreeMap::new();
    for round in 0..4_u32 {
        let stop = AtomicBool::new(false);
        let done: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..3_u32)
                .map(|writer| {
                    let (server, root, stop) = (&server, &root, &stop);
                    scope.spawn(move || {
                        let mut done = Vec::new();
                        for turn in 0_u32.. {
                            let body = noise(100_000 * (1 + turn as usize % 4), round * 1_000 + writer * 100 + turn);
                            let name = format!("{round}-{writer}-{turn}");
                            let reply = try_send(server, "PUT", &format!("{FILES}/{root}/{name}"), &[], &body);
                            match reply {
                                Some(reply) if reply.status == 200 => done.push((name, domain::Digest::of(&body))),
                                _ if stop.load(Ordering::SeqCst) => break,
                                other => panic!("{other:?}"),
                            }
                        }
                        done
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(300 + u64::from(round) * 137));
            stop.store(true, Ordering::SeqCst);
            server.kill_now();
            writers.into_iter().flat_map(|writer| writer.join().expect("it ends")).collect()
        });
        assert!(!done.is_empty());
        acked.extend(done);
        server = Server::start(data.path());
        no_scratch(data.path());
        let listed = listed(&server, &root);
        for name in acked.keys() {
            assert!(listed.iter().any(|(found, _)| found == name), "{name} is gone");
        }
        for (name, bytes) in listed {
            let file = get(&server, &format!("{root}/{name}")).ok();
            assert_eq!(file.body.len() as u64, bytes, "{name}");
            let digest = domain::Digest::of(&file.body);
            assert_eq!(file.headers["etag"], format!("\"{digest}\""), "{name}");
            assert!(acked.get(&name).is_none_or(|acked| *acked == digest), "{name}");
        }
    }
}
