//! Clients that are slow, many, or talk too much at once.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use crate::support::Server;

const HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n";

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    stream
}

/// Everything until the other side closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn status_line(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|read| read == 1) && byte[0] != b'\n' {
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[test]
fn a_head_that_never_ends_and_a_connection_that_stays_silent_are_closed() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), &["--set", "server.connection_idle=300ms"]);
    let mut slow = connect(&server);
    slow.write_all(HEAD.as_bytes()).expect("sent");
    let mut silent = connect(&server);
    let mut kept = connect(&server);
    kept.write_all(format!("{HEAD}\r\n").as_bytes()).expect("sent");
    assert!(rest(&mut kept).starts_with("HTTP/1.1 200"), "answered, and closed when nothing more came");
    let said = rest(&mut slow);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    rest(&mut silent);
    server.get("/healthz").ok();
}

#[test]
fn more_connections_than_allowed_wait_for_their_turn() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), &["--set", "server.max_connections=2"]);
    let ask = |stream: &mut TcpStream| stream.write_all(format!("{HEAD}\r\n").as_bytes()).expect("sent");
    let mut held = [connect(&server), connect(&server)];
    for stream in &mut held {
        ask(stream);
        assert_eq!(status_line(stream), "HTTP/1.1 200 OK");
    }
    let mut third = connect(&server);
    ask(&mut third);
    third.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
    assert_eq!(status_line(&mut third), "", "it waits");
    drop(held);
    third.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    assert_eq!(status_line(&mut third), "HTTP/1.1 200 OK");
}

#[test]
fn hundreds_of_silent_connections_do_not_keep_anybody_out() {
    let (server, _data) = Server::fresh();
    let silent: Vec<TcpStream> = (0..400).map(|_| connect(&server)).collect();
    server.get("/healthz").ok();
    drop(silent);
    server.get("/healthz").ok();
}

#[test]
fn a_head_that_is_too_large_is_refused_and_the_server_goes_on() {
    let (server, _data) = Server::fresh();
    let mut stream = connect(&server);
    // What is refused is not read to its end.
    let _ = stream.write_all(format!("{HEAD}x-much: {}\r\n\r\n", "x".repeat(200 << 10)).as_bytes());
    let said = rest(&mut stream);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    server.get("/healthz").ok();
}

/// Where two readers of one message could take its end for different places (RFC 9112, 6.3).
#[test]
fn a_message_whose_length_can_be_read_two_ways_is_refused() {
    let (server, _data) = Server::fresh();
    for (headers, body) in [
        ("content-length: 4\r\ncontent-length: 30\r\n", "0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n"),
        ("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("content-length: +4\r\n", "aaaa"),
        ("content-length: 4, 5\r\n", "aaaa"),
    ] {
        let mut stream = connect(&server);
        let head = "POST /api/v1/runs HTTP/1.1\r\nhost: localhost\r\n";
        stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes()).expect("sent");
        let said = rest(&mut stream);
        assert!(said.starts_with("HTTP/1.1 400"), "{headers}: {said}");
        assert_eq!(said.matches("HTTP/1.1").count(), 1, "one answer: {said}");
    }
    server.get("/healthz").ok();
}
