//! Files that do not pass through the server.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use ureq::Agent;

use crate::{
    UPLOADS,
    bucket::Shared,
    eventually, get, listed, noise, post, put,
    raw::{Reply, send},
    run,
    support::Server,
};

/// A call of the store itself, as a client makes it.
pub fn call(method: &str, url: &str, range: Option<&str>, body: &[u8]) -> Result<Reply, ureq::Error> {
    let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60)));
    let agent: Agent = config.build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let answer = agent.run(request.body(body).expect("a request"))?;
    let status = answer.status().as_u16();
    let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers = answer.headers().iter().map(header).collect();
    let body = answer.into_body().into_with_config().limit(1 << 30).read_to_vec()?;
    Ok(Reply { status, headers, body })
}

/// An upload whose parts go to the store.
pub struct Upload<'a> {
    server: &'a Server,
    directory: String,
    name: String,
    created: Value,
}

impl<'a> Upload<'a> {
    /// `None` once the server is dead.
    pub fn create(server: &'a Server, directory: &str, name: &str, parts: usize) -> Option<Self> {
        let mut upload = Self { server, directory: directory.to_owned(), name: name.to_owned(), created: Value::Null };
        upload.created = upload.ask("create", &json!({"num_parts": parts}))?.ok().json();
        Some(upload)
    }

    /// The same upload at another server.
    pub fn on<'b>(server: &'b Server, upload: Upload<'_>) -> Upload<'b> {
        Upload { server, directory: upload.directory, name: upload.name, created: upload.created }
    }

    pub fn ask(&self, call: &str, extra: &Value) -> Option<Reply> {
        let mut body = json!({"path": format!("somewhere/{}", self.name), "upload_id": self.created["upload_id"]});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        let path = format!("{UPLOADS}/{call}/{}", self.directory);
        crate::raw::try_send(
            self.server,
            "POST",
            &path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    fn url(&self, number: usize) -> &str {
        self.created["credentials"][number - 1]["url"].as_str().expect("an address")
    }

    /// What completion wants to know of the part.
    pub fn send(&self, number: usize, part: &[u8]) -> Value {
        self.try_part(number, part).expect("the store answers")
    }

    /// `None` where nobody answers, as a server that is dead.
    pub fn try_part(&self, number: usize, part: &[u8]) -> Option<Value> {
        let sent = call("PUT", self.url(number), None, part).ok()?.ok();
        Some(json!({"part_number": number, "etag": sent.headers["etag"], "url": self.url(number)}))
    }
}

/// Keys of staged objects and parts.
fn staged(shared: &Shared) -> Vec<String> {
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let root = shared.folder().join("../../..");
    let parts = names(&root).into_iter().filter(|name| name.starts_with(".upload"));
    parts.chain(names(&shared.folder().join("staging"))).collect()
}

#[test]
fn parts_go_to_the_bucket_and_the_file_is_seen_when_it_is_whole() {
    let shared = Shared::within(crate::bucket::store());
    let data = tempfile::tempdir().expect("a directory");
    let server = shared.start(data.path());
    let (_, root) = run(&server);
    let body = noise((11 << 20) + 5, 6);
    let parts: Vec<&[u8]> = body.chunks(5 << 20).collect();

    let upload = Upload::create(&server, &root, "weights.bin", parts.len()).expect("an answer");
    assert!(!upload.url(1).starts_with(&server.url), "{}", upload.url(1));
    let sent: Vec<Value> = parts.iter().enumerate().rev().map(|(at, part)| upload.send(at + 1, part)).collect();
    assert_eq!(listed(&server, &root), []);
    let complete = |parts: &[Value]| upload.ask("complete", &json!({"parts": parts})).expect("an answer");
    for bad in [&sent[1..], &[&sent[..], &sent[..1]].concat(), &[]] {
        complete(bad).refused(400, "INVALID_PARAMETER_VALUE");
    }
    for _ in 0..2 {
        assert_eq!(complete(&sent).ok().json(), json!({}));
    }
    assert_eq!(listed(&server, &root), [("weights.bin".to_owned(), body.len() as u64)]);
    assert!(get(&server, &format!("{root}/weights.bin")).ok().body == body);
    assert!(fs::read(shared.object(&body)).expect("it lies under its digest") == body);
    let late = call("PUT", upload.url(1), None, b"late").expect("an answer");
    assert!(late.status >= 400, "a part that comes after the end goes nowhere: {late:?}");

    let short = Upload::create(&server, &root, "short.bin", 2).expect("an answer");
    let first = short.send(1, &body[..1000]);
    let named = [first.clone(), json!({"part_number": 2, "etag": first["etag"]})];
    let complete = |parts: &[Value]| short.ask("complete", &json!({"parts": parts})).expect("an answer");
    complete(&named).refused(400, "INVALID_PARAMETER_VALUE");
    let named = [first, short.send(2, b"end")];
    let said = complete(&named).refused(400, "INVALID_PARAMETER_VALUE");
    assert!(said.contains("1000 bytes") && said.contains("5242880"), "{said}");
    for _ in 0..2 {
        assert_eq!(short.ask("abort", &json!({})).expect("an answer").ok().json(), json!({}));
    }
    short.ask("complete", &json!({"parts": named})).expect("an answer").refused(404, "RESOURCE_DOES_NOT_EXIST");
    assert_eq!(listed(&server, &root).len(), 1);
    eventually("nothing half-made to be left", || staged(&shared).is_empty().then_some(()));
}

#[test]
fn an_address_gives_the_file_and_nothing_else() {
    let shared = Shared::new();
    let data = tempfile::tempdir().expect("a directory");
    let server = shared.start(data.path());
    let (id, root) = run(&server);
    let body = noise(300_000, 7);
    put(&server, &format!("{root}/d/m.bin"), &body).ok();
    let info = server.get("/api/3.0/mlflow/server-info").ok();
    assert_eq!(info["multipart_downloads_enabled"], true, "{info}");

    let ask = |path: &str| send(&server, "GET", &format!("/api/2.0/mlflow-artifacts/presigned/{path}"), &[], b"");
    let given = ask(&format!("{root}/d/m.bin")).ok().json();
    assert_eq!((&given["file_size"], &given["headers"]), (&json!(body.len()), &json!({})), "{given}");
    let url = given["url"].as_str().expect("an address");
    let got = call("GET", url, None, b"").expect("the store answers").ok();
    assert!(got.body == body);
    assert_eq!(got.headers["content-disposition"], "attachment; filename=\"m.bin\"");
    let part = call("GET", url, Some("bytes=10-19"), b"").expect("the store answers").ok();
    assert!((part.status, part.body.as_slice()) == (206, &body[10..20]));
    let bent = url.replace("X-Amz-Expires=900", "X-Amz-Expires=90000");
    assert_ne!(bent, url);
    for (method, url) in [("GET", bent.as_str()), ("PUT", url), ("DELETE", url)] {
        assert_eq!(call(method, url, None, b"").expect("the store answers").status, 403, "{method}");
    }
    ask(&format!("{root}/d")).refused(400, "INVALID_PARAMETER_VALUE");
    ask(&format!("{root}/none")).refused(404, "RESOURCE_DOES_NOT_EXIST");
    ask(&format!("{root}/%2e%2e/x")).refused(400, "INVALID_PARAMETER_VALUE");

    let sign = |call: &str, fields: Value| post(&server, &format!("/api/2.0/mlflow/artifacts/{call}"), &fields);
    let given = sign("presigned-download-url", json!({"run_id": id, "path": "d/m.bin", "expiration": 60})).ok().json();
    let url = given["presigned_url"].as_str().expect("an address");
    assert!(url.contains("X-Amz-Expires=60") && call("GET", url, None, b"").expect("an answer").ok().body == body);
    for expiration in [0, 604_801] {
        let fields = json!({"run_id": id, "path": "d/m.bin", "expiration": expiration});
        sign("presigned-download-url", fields).refused(400, "INVALID_PARAMETER_VALUE");
    }
    let absent = json!({"run_id": id, "path": "d/none"});
    sign("presigned-download-url", absent).refused(404, "RESOURCE_DOES_NOT_EXIST");
    sign("presigned-upload-url", json!({"run_id": id, "path": "x"})).refused(501, "NOT_IMPLEMENTED");
    drop(server);

    // Where clients cannot reach the bucket, all goes through the server.
    let server = shared.start_with(data.path(), &["--set", "objects.direct=false"]);
    assert_eq!(server.get("/api/3.0/mlflow/server-info").ok()["multipart_downloads_enabled"], false);
    let refused = send(&server, "GET", &format!("/api/2.0/mlflow-artifacts/presigned/{root}/d/m.bin"), &[], b"");
    refused.refused(501, "NOT_IMPLEMENTED");
    let upload = Upload::create(&server, &root, "through", 1).expect("an answer");
    assert!(upload.url(1).starts_with(&server.url), "{}", upload.url(1));
    let sent = upload.send(1, b"here");
    upload.ask("complete", &json!({"parts": [sent]})).expect("an answer").ok();
    assert_eq!(get(&server, &format!("{root}/through")).ok().body, b"here");
}
