//! Paths that want to lead out, and names that want to be more than names.

use std::fs;

use serde_json::json;

use crate::{FILES, UPLOADS, encoded, get, listed, no_scratch, post, put, raw::send, run, support::Server};

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
