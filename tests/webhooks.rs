//! Webhooks of the real server: what survives `kill -9`, where messages may not go, and what is never shown.

mod support;

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::{Value, json};
use support::{
    Answer, Server, eventually,
    receiver::Receiver,
    sensors::{items, text},
};

const API: &str = "/api/2.0/mlflow";

fn start(data: &Path) -> Server {
    Server::start_with(data, &["--set", "webhooks.allow_private=true", "--set", "webhooks.first_retry=10ms"])
}

fn send(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    server.call(method, &format!("{API}/{path}"), "application/json", body.to_string().as_bytes())
}

fn create(server: &Server, url: &str, events: &[(&str, &str)]) -> Answer {
    let events: Vec<_> = events.iter().map(|(entity, action)| json!({"entity": entity, "action": action})).collect();
    let new = json!({"name": "hook", "url": url, "events": events, "secret": "sesame-open"});
    send(server, "POST", "webhooks", &new)
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.body["error_code"].as_str()), (status, Some(code)), "{}", answer.body);
}

#[test]
fn what_happened_before_kill_9_is_told_after_it_under_the_same_ids() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = start(data.path());
    let receiver = Receiver::start(&[0]);
    let made = create(&server, &receiver.url(), &[("REGISTERED_MODEL", "CREATED")]).ok();
    let id = text(&made["webhook"]["webhook_id"]).to_owned();
    for n in 0..10 {
        send(&server, "POST", "registered-models/create", &json!({"name": format!("m{n}")})).ok();
    }
    let begun = receiver.next();
    let queued = eventually("all are queued", || {
        let all = server.get(&format!("/api/v1/webhooks/{id}/deliveries")).ok();
        (items(&all).len() == 10).then_some(all)
    });
    server.kill();
    receiver.answer(200);

    let server = start(data.path());
    let wanted: BTreeMap<&str, &Value> = items(&queued).iter().map(|one| (text(&one["id"]), &one["seq"])).collect();
    for n in 0..10 {
        let received = receiver.next();
        assert_eq!(received.json()["data"]["name"], format!("m{n}"), "in order");
        assert!(wanted.contains_key(received.delivery()), "the ids are those of before");
        assert!(n > 0 || received.delivery() == begun.delivery(), "the one that was on its way comes first");
    }
    eventually("all are delivered", || {
        let all = server.get(&format!("/api/v1/webhooks/{id}/deliveries")).ok();
        items(&all).iter().all(|one| one["state"] == "delivered").then_some(())
    });
    assert!(receiver.within(Duration::from_millis(100)).is_none(), "and none twice");
}

#[test]
fn messages_go_to_public_addresses_by_https_only() {
    let (server, _data) = Server::fresh();
    let version = [("MODEL_VERSION", "CREATED")];
    for url in [
        "http://93.184.216.34/",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://172.16.3.4/",
        "https://192.168.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[fd00:ec2::254]/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://0/",
        "https://localhost:8080/",
        "https://x.localhost/",
        "https://user:word@example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com",
        "not a url",
        "https://",
    ] {
        let answer = create(&server, url, &version);
        refused(&answer, 400, "INVALID_PARAMETER_VALUE");
        assert!(text(&answer.body["message"]).contains("webhook URL"), "{url}: {}", answer.body);
    }
    let made = create(&server, "https://93.184.216.34/hook", &version).ok();
    let id = text(&made["webhook"]["webhook_id"]).to_owned();
    let moved = send(&server, "PATCH", &format!("webhooks/{id}"), &json!({"url": "https://169.254.169.254/"}));
    refused(&moved, 400, "INVALID_PARAMETER_VALUE");
    assert_eq!(server.get(&format!("{API}/webhooks/{id}")).ok(), made);
}

#[test]
fn a_name_that_leads_home_later_is_not_sent_to() {
    // Registered where that was allowed; then the setting was switched off, as when a name changes its mind.
    let data = tempfile::tempdir().expect("a temporary directory");
    let receiver = Receiver::start(&[200]);
    let server = start(data.path());
    let url = format!("https://localhost:{}/hook?token=abc", receiver.port);
    let made = create(&server, &url, &[("REGISTERED_MODEL", "CREATED")]).ok();
    let id = text(&made["webhook"]["webhook_id"]).to_owned();
    server.kill();
    let server = Server::start(data.path());
    send(&server, "POST", "registered-models/create", &json!({"name": "m"})).ok();
    let lost = eventually("it is given up", || {
        let all = server.get(&format!("/api/v1/webhooks/{id}/deliveries")).ok();
        items(&all).iter().find(|one| one["state"] == "failed").cloned()
    });
    assert!(text(&lost["last_error"]).contains("not public"), "{lost}");
    assert!(!server.get("/api/v1/events?limit=1000").ok().to_string().contains("token"), "the URL is not told of");
    let tested = send(&server, "POST", &format!("webhooks/{id}/test"), &json!({})).ok();
    assert_eq!(tested["result"]["success"], false);
    assert!(text(&tested["result"]["error_message"]).contains("not public"), "{tested}");
    assert!(receiver.within(Duration::from_millis(50)).is_none());
}

#[test]
fn both_prefixes_answer_errors_are_mlflows_and_the_secret_is_never_shown() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = start(data.path());
    let receiver = Receiver::start(&[200]);
    let made = create(&server, &receiver.url(), &[("MODEL_VERSION", "CREATED"), ("MODEL_VERSION_ALIAS", "DELETED")]);
    let made = made.ok()["webhook"].clone();
    assert_eq!((&made["status"], made.get("description"), made.get("secret")), (&json!("ACTIVE"), None, None));
    assert_eq!(made["events"][1], json!({"entity": "MODEL_VERSION_ALIAS", "action": "DELETED"}));
    let id = text(&made["webhook_id"]).to_owned();
    let listed = server.get("/ajax-api/2.0/mlflow/webhooks?max_results=1").ok();
    assert_eq!(listed, json!({"webhooks": [made]}));
    for (method, path, body, status, code) in [
        ("POST", "webhooks", json!({"name": "x", "url": "https://93.184.216.34/"}), 400, "INVALID_PARAMETER_VALUE"),
        (
            "POST",
            "webhooks",
            json!({"name": "x", "url": "https://93.184.216.34/", "events": [{"entity": "RUN", "action": "CREATED"}]}),
            400,
            "INVALID_PARAMETER_VALUE",
        ),
        (
            "POST",
            "webhooks",
            json!({"name": "x", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]}),
            400,
            "INVALID_PARAMETER_VALUE",
        ),
        ("GET", "webhooks/none", json!({}), 404, "RESOURCE_DOES_NOT_EXIST"),
        ("DELETE", "webhooks/00000000000000000000000000000000", json!({}), 404, "RESOURCE_DOES_NOT_EXIST"),
        ("POST", "webhooks/none/test", json!({}), 404, "RESOURCE_DOES_NOT_EXIST"),
        ("PUT", "webhooks", json!({}), 404, "ENDPOINT_NOT_FOUND"),
    ] {
        refused(&send(&server, method, path, &body), status, code);
    }
    refused(&server.get(&format!("{API}/webhooks?page_token=x")), 400, "INVALID_PARAMETER_VALUE");
    refused(&server.get(&format!("{API}/webhooks?max_results=1001")), 400, "INVALID_PARAMETER_VALUE");
    refused(
        &send(&server, "PATCH", &format!("webhooks/{id}"), &json!({"status": "ASLEEP"})),
        400,
        "INVALID_PARAMETER_VALUE",
    );

    send(&server, "POST", &format!("webhooks/{id}/test"), &json!({})).ok();
    let sent = receiver.next();
    assert!(!sent.body.contains("sesame") && sent.headers.values().all(|value| !value.contains("sesame")));
    for path in [
        format!("{API}/webhooks"),
        format!("{API}/webhooks/{id}"),
        format!("/api/v1/webhooks/{id}/deliveries"),
        "/api/v1/events?limit=1000".to_owned(),
    ] {
        assert!(!server.get(&path).ok().to_string().contains("sesame"), "{path}");
    }
    server.get("/api/v1/webhooks/00000000000000000000000000000000/deliveries").problem(404, "not_found");
}
