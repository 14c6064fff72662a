//! Large files, slow ones, and those that break off.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::{
    FILES, UPLOADS, get, listed, no_scratch, noise, post, put,
    raw::{connect, head, reply, send, try_send},
    run,
    support::{Server, eventually},
};

/// Whether the server's end of a connection is open, as the kernel sees it.
fn holds(server: &Server, stream: &TcpStream) -> bool {
    let port = |url: &str| url.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let (here, there) = (stream.local_addr().expect("it is connected").port(), port(&server.url));
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    // Number, own address, other address, state; `01` is an open connection.
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|entry| {
        let is = |at: usize, port: u16| entry[at].ends_with(&format!(":{port:04X}"));
        entry.len() > 3 && is(1, there) && is(2, here) && entry[3] == "01"
    })
}

#[test]
fn a_large_file_passes_through_little_memory() {
    let (server, _data) = Server::fresh();
    let (_, root) = run(&server);
    let small = noise(1 << 20, 9);
    put(&server, &format!("{root}/small"), &small).ok();
    assert!(get(&server, &format!("{root}/small")).body == small);
    let before = server.memory_kib("VmHWM");
    let large = noise(64 << 20, 1);
    put(&server, &format!("{root}/large"), &large).ok();
    assert!(get(&server, &format!("{root}/large")).ok().body == large);
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
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
    let flags = ["server.request_deadline=500ms", "server.transfer_idle=2s", "server.max_artifact_bytes=1 MiB"];
    let flags: Vec<_> = flags.iter().flat_map(|flag| ["--set", flag]).collect();
    let server = Server::start_with(data.path(), &flags);
    let (_, root) = run(&server);
    let upload = |name: &str, bytes: &[u8]| {
        let mut stream = connect(&server);
        let address = format!("{FILES}/{root}/{name}");
        stream.write_all(head(&server, "PUT", &address, &[("content-length", "5")]).as_bytes()).expect("sent");
        for byte in bytes {
            // No wait for anything: this is what a slow sender does.
            thread::sleep(Duration::from_millis(200));
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
    assert!(holds(&server, &stream));
    eventually("the server to give up a reader that does not read", || (!holds(&server, &stream)).then_some(()));
    let cut = reply(stream).expect("its beginning");
    assert!(cut.body.len() < 24 << 20, "it got everything");
    assert_eq!(get(&server, &format!("{root}/out")).ok().body.len(), 24 << 20);
}

#[test]
fn acknowledged_files_survive_being_killed_and_nothing_else_is_listed() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(data.path());
    let (_, root) = run(&server);
    // File -> digest, as acknowledged.
    let mut acked: BTreeMap<String, domain::Digest> = BTreeMap::new();
    for round in 0..4_u32 {
        let (stop, count) = (AtomicBool::new(false), AtomicU32::new(0));
        let done: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..3_u32)
                .map(|writer| {
                    let (server, root, stop, count) = (&server, &root, &stop, &count);
                    scope.spawn(move || {
                        let mut done = Vec::new();
                        for turn in 0_u32.. {
                            let body = noise(100_000 * (1 + turn as usize % 4), round * 1_000 + writer * 100 + turn);
                            let name = format!("{round}-{writer}-{turn}");
                            let reply = try_send(server, "PUT", &format!("{FILES}/{root}/{name}"), &[], &body);
                            match reply {
                                Some(reply) if reply.status == 200 => {
                                    done.push((name, domain::Digest::of(&body)));
                                    count.fetch_add(1, Ordering::SeqCst);
                                }
                                _ if stop.load(Ordering::SeqCst) => break,
                                other => panic!("{other:?}"),
                            }
                        }
                        done
                    })
                })
                .collect();
            // In the middle of uploads, another time in every round.
            eventually("some uploads", || (count.load(Ordering::SeqCst) > 5 + 7 * round).then_some(()));
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
