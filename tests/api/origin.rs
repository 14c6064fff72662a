//! Requests that a web page of another site could make are refused on every method and every door.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::SERVER;

/// Sends a bare request and gives the status and the whole answer.
fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let address = SERVER.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{method} {path} HTTP/1.1\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, answer)
}

const PATHS: [&str; 8] = [
    "/",
    "/docs/",
    "/metrics",
    "/api/v1/models",
    "/api/2.0/mlflow/experiments/create",
    "/api/2.0/mlflow-artifacts/artifacts/0/x",
    "/millpond.serving.v1.Serving/Predict",
    "/nowhere",
];

#[test]
fn another_name_for_this_machine_is_refused_on_every_method_and_door() {
    for path in PATHS {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let (status, answer) = ask(method, path, &[("host", "rebound.example")]);
            assert_eq!(status, 403, "{method} {path}: {answer}");
            let answer = answer.to_lowercase();
            assert!(answer.contains("permission_denied") && answer.contains("server.allowed_hosts"), "{answer}");
        }
    }
}

#[test]
fn a_page_of_another_site_is_refused_on_every_method_and_door() {
    let host = SERVER.url.trim_start_matches("http://");
    for path in PATHS {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
                let (status, answer) = ask(method, path, &[("host", host), ("origin", origin)]);
                assert_eq!(status, 403, "{method} {path} {origin}: {answer}");
            }
        }
    }
}

#[test]
fn our_own_page_and_programs_pass() {
    let host = SERVER.url.trim_start_matches("http://");
    assert_eq!(ask("GET", "/api/v1/models", &[("host", host)]).0, 200);
    assert_eq!(ask("GET", "/api/v1/models", &[("host", host), ("origin", &SERVER.url)]).0, 200);
    let port = host.rsplit(':').next().expect("a port");
    assert_eq!(ask("GET", "/api/v1/models", &[("host", &format!("localhost:{port}"))]).0, 200);
}
