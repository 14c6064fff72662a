//! The audit log: who did what, who was refused, and that nobody changed it since.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::{
    As, Guarded, millpond_as,
    support::sensors::{items, text},
    text as utf8,
};

fn page(guarded: &Guarded, query: &str) -> Vec<Value> {
    items(&guarded.get(&As::token(&guarded.root), &format!("/api/v1/audit?limit=1000{query}")).ok()["events"]).to_vec()
}

#[test]
fn a_change_names_who_made_it_whatever_the_caller_claims() {
    let guarded = Guarded::fresh();
    let ann = As::token(&guarded.token("default", "ann", "engineer", &[]));
    let run = guarded.ask(&ann, "POST", "/api/v1/runs", &json!({"experiment": "e"})).ok();
    let create = json!({"name": "m", "tags": [{"key": "mlflow.user", "value": "eve"}]});
    guarded.ask(&ann, "POST", "/api/2.0/mlflow/registered-models/create", &create).ok();
    let started = page(&guarded, "&actor=ann");
    let told: Vec<_> = started.iter().map(|event| (text(&event["kind"]), text(&event["actor"]))).collect();
    assert!(told.contains(&("run.started", "ann")) && told.contains(&("model.created", "ann")), "{told:?}");
    let of_run =
        started.iter().find(|event| event["subject"] == format!("run/{}", text(&run["id"]))).expect("an event");
    assert!(text(&of_run["request"]).len() >= 32, "the request is named: {of_run}");
    assert!(page(&guarded, "&actor=eve").is_empty());
}

#[test]
fn a_refused_attempt_is_kept_with_who_what_and_from_where() {
    let guarded = Guarded::fresh();
    let bob = As::token(&guarded.token("default", "bob", "viewer", &[]));
    for _ in 0..3 {
        guarded.ask(&bob, "POST", "/api/v1/runs", &json!({"experiment": "e"})).problem(403, "permission_denied");
    }
    guarded.get(&As::default(), "/api/v1/runs/secret-name").problem(401, "unauthenticated");
    let refused = page(&guarded, "&kind=access.refused");
    let told: Vec<_> =
        refused.iter().map(|e| (text(&e["actor"]), text(&e["body"]["call"]), text(&e["body"]["code"]))).collect();
    assert_eq!(
        told,
        [("bob", "POST /api/v1/runs", "permission_denied"), ("anonymous", "GET /api/v1/runs/{run}", "unauthenticated")],
        "each kind once: more of it is counted"
    );
    assert_eq!(refused[0]["body"]["from"], "127.0.0.1");
    assert!(text(&refused[0]["request"]).len() >= 32, "the request is named: {}", refused[0]);
    // The count is written at the latest when the server stops.
    let guarded = guarded.again(|server| assert_eq!(server.stop(), Some(0)));
    let times: u64 =
        page(&guarded, "&kind=access.refused&actor=bob").iter().filter_map(|e| e["body"]["times"].as_u64()).sum();
    assert_eq!(times, 3);
}

#[test]
fn made_up_methods_and_paths_make_one_entry_and_not_many() {
    let guarded = Guarded::fresh();
    for n in 0..5 {
        let method = format!("BREW{n}{}", "X".repeat(2_000));
        for path in ["/api/v1/runs".to_owned(), format!("/nowhere/{n}")] {
            let (_, answer) = guarded.server.call_with(&method, &path, &[], b"");
            assert_eq!(answer.status, 401, "{path}");
        }
    }
    let refused = page(&guarded, "&kind=access.refused");
    let calls: Vec<_> = refused.iter().map(|event| text(&event["body"]["call"])).collect();
    assert_eq!(calls, ["other /api/v1/runs", "other (no route)"]);
    let metrics = guarded.get(&As::token(&guarded.root), "/metrics").ok();
    assert!(!text(&metrics).contains("BREW"), "nor does it grow the metrics");
}

/// Changes the journal behind the server's back.
fn tamper(guarded: Guarded, statement: &'static str) -> Guarded {
    let database = guarded.data().join("meta.db");
    guarded.again(|server| {
        server.kill();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let meta = storage::Meta::open(&database).await.expect("opens");
            let mut tx = meta.begin().await.expect("begins");
            storage::sqlx::query(statement).execute(tx.conn()).await.expect("changes it");
            tx.commit().await.expect("commits");
        });
    })
}

#[test]
fn verify_finds_a_changed_a_removed_and_a_cut_off_event() {
    let guarded = Guarded::fresh();
    for experiment in ["a", "b", "c", "d"] {
        guarded.ask(&As::token(&guarded.root), "POST", "/api/v1/runs", &json!({"experiment": experiment})).ok();
    }
    let head_file = guarded.data().join("audit.head");
    let head_file = head_file.to_str().expect("UTF-8").to_owned();
    let verify = |guarded: &Guarded, args: &[&str]| {
        let output = millpond_as(&guarded.server, &guarded.root, &[&["audit", "verify"], args].concat());
        (output.status.code(), utf8(&output.stdout))
    };
    let (code, said) = verify(&guarded, &["--head-file", &head_file]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("every link holds"), "{said}");
    let kept = std::fs::read_to_string(&head_file).expect("written");
    let newest: u64 = kept.split(':').next().and_then(|seq| seq.parse().ok()).expect("a number");

    let guarded = tamper(guarded, "DELETE FROM journal WHERE seq = (SELECT MAX(seq) FROM journal)");
    assert_eq!(verify(&guarded, &[]).0, Some(0), "the chain alone cannot tell");
    let (code, said) = verify(&guarded, &["--head-file", &head_file]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("events {newest} to {newest} are missing")), "{said}");
    assert_eq!(std::fs::read_to_string(&head_file).expect("there"), kept, "a head that does not hold replaces none");

    let guarded = tamper(guarded, "UPDATE journal SET actor = 'nobody' WHERE seq = 3");
    let (code, said) = verify(&guarded, &["--json"]);
    assert_eq!(code, Some(1));
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert!(text(&said["broken"]).contains("journal at 3"), "{said}");

    let guarded = tamper(guarded, "DELETE FROM journal WHERE seq = 2");
    let (code, said) = verify(&guarded, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("journal at 3") && said.contains("numbers are missing"), "{said}");
}

#[test]
fn no_secret_of_a_token_is_logged_or_kept() {
    let data = tempfile::tempdir().expect("a directory");
    let log = data.path().join("server.log");
    let server = crate::support::Server::start_logging(
        data.path(),
        &["--set", "access.required=true", "--set", "log.filter=trace"],
        &log,
    );
    let root = std::fs::read_to_string(data.path().join("first-admin.token")).expect("written");
    let guarded = Guarded::of(server, data, &root);
    let ann = guarded.token("default", "ann", "engineer", &[]);
    let mistyped = format!("{}0", &ann[..ann.len() - 1]);
    for token in [&ann, &mistyped, &guarded.root] {
        guarded.get(&As::token(token), "/api/v1/runs");
        guarded.get(&As::token(token), "/api/v1/nothing");
        guarded.get(&As::default(), &format!("/api/v1/runs/{token}"));
    }
    let secrets = [&ann, &guarded.root].map(|token| token.rsplit('.').next().expect("a secret").to_owned());
    let journal = guarded.get(&As::token(&guarded.root), "/api/v1/audit?limit=1000").ok().to_string();
    let logged = std::fs::read_to_string(&log).expect("the log");
    assert!(logged.lines().count() > 20, "it was logged at all");
    for secret in secrets {
        assert!(!journal.contains(&secret), "in the journal");
        let line = logged.lines().find(|line| line.contains(&secret));
        assert!(line.is_none(), "in the log: {line:?}");
    }
    let mode = std::fs::metadata(guarded.data().join("first-admin.token")).expect("there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "only its owner can read it");
}
