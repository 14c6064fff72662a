//! Uploads in parts.

use std::thread;

use serde_json::{Value, json};

use crate::{UPLOADS, get, listed, no_scratch, noise, post, raw::send, run, support::Server};

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
