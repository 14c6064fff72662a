//! Protected aliases through every door: REST, gRPC, the command line and MLflow's API.

mod support;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::{
    registry::{
        AskRequest, DecideRequest, GetHistoryRequest, ListApprovalsRequest, ListProtectionsRequest,
        ProtectAliasRequest, SetAliasRequest, UnprotectAliasRequest, approvals_client::ApprovalsClient,
        registry_client::RegistryClient,
    },
    to_struct,
};
use serde_json::{Value, json};
use support::{
    Server, millpond,
    sensors::{items, text},
};
use tonic::{Code, transport::Channel};

const MODEL: &str = "/api/v1/models/paper";

/// A server with a model of so many versions, and `champion` at the first.
fn shelf(versions: usize) -> (Server, tempfile::TempDir) {
    let (server, data) = Server::fresh();
    let run = server.post("/api/v1/runs", &json!({"experiment": "delays"})).ok();
    for weights in 0..versions {
        let new = json!({
            "run": run["id"], "files": {"model.onnx": STANDARD.encode(weights.to_string())},
            "signature": {"inputs": [{"name": "x", "type": "float"}], "outputs": []},
            "metrics": {"auc": 0.6 + 0.1 * weights as f64},
        });
        server.post(&format!("{MODEL}/versions"), &new).ok();
    }
    server.put(&format!("{MODEL}/aliases/champion"), &json!({"version": 1})).ok();
    (server, data)
}

fn champion(server: &Server) -> u64 {
    let model = server.get("/api/2.0/mlflow/registered-models/get?name=paper").ok();
    let champion = items(&model["registered_model"]["aliases"]).iter().find(|one| one["alias"] == "champion");
    text(&champion.expect("a champion")["version"]).parse().expect("a number")
}

fn protect(server: &Server, approvals: u32, gates: &Value) -> Value {
    let rule = json!({"approvals": approvals, "gates": gates, "reason": "people decide", "actor": "ada"});
    server.put(&format!("{MODEL}/aliases/champion/protection"), &rule).ok()
}

fn ask(server: &Server, version: u32, actor: &str) -> Value {
    let ask = json!({"alias": "champion", "version": version, "reason": "better", "actor": actor});
    server.post(&format!("{MODEL}/approvals"), &ask).ok()
}

#[test]
fn no_door_moves_a_protected_alias_and_each_says_how_to_ask() {
    let (server, _data) = shelf(2);
    protect(&server, 1, &json!([]));
    let detail = server.put(&format!("{MODEL}/aliases/champion"), &json!({"version": 2}));
    assert!(text(&detail.body["hint"]).contains("millpond models ask paper champion 2"), "{}", detail.body);
    detail.problem(403, "permission_denied");

    let alias = json!({"name": "paper", "alias": "champion", "version": "2"});
    for (method, path, body) in [
        ("POST", "registered-models/alias", &alias),
        ("DELETE", "registered-models/alias", &alias),
        ("DELETE", "model-versions/delete", &json!({"name": "paper", "version": "1"})),
        ("DELETE", "registered-models/delete", &json!({"name": "paper"})),
        ("POST", "registered-models/rename", &json!({"name": "paper", "new_name": "other"})),
    ] {
        let sent = body.to_string();
        for api in ["/api/2.0/mlflow", "/ajax-api/2.0/mlflow"] {
            let answer = server.call(method, &format!("{api}/{path}"), "application/json", sent.as_bytes());
            assert_eq!((answer.status, &answer.body["error_code"]), (403, &json!("PERMISSION_DENIED")), "{path}");
            let message = text(&answer.body["message"]);
            assert!(message.contains("`champion`") && message.contains("millpond models ask paper"), "{message}");
        }
    }
    let output = millpond(&["--url", &server.url, "models", "alias", "paper", "champion", "2"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is protected") && said.contains("models ask"), "{said}");
    assert_eq!(champion(&server), 1);
}

#[test]
fn a_request_is_approved_over_rest_and_its_history_tells_all() {
    let (server, _data) = shelf(3);
    let gates = json!([
        {"metric": {"key": "auc", "at_least": 0.65}},
        {"not_worse_than_current": {"key": "auc", "greater_is_better": true}},
    ]);
    let made = protect(&server, 2, &gates);
    assert_eq!(
        (&made["approvals"], &made["gates"]),
        (
            &json!(2),
            &json!([
                {"metric": {"key": "auc", "at_least": 0.65}},
                {"not_worse_than_current": {"key": "auc", "greater_is_better": true, "tolerance": 0.0}},
            ])
        )
    );
    assert_eq!(items(&server.get(&format!("{MODEL}/protections")).ok())[0], made);

    let asked = ask(&server, 2, "cleo");
    let request = format!("{MODEL}/approvals/{}", text(&asked["id"]));
    let say = |what: &str, actor: &str| server.post(&format!("{request}/{what}"), &json!({"actor": actor}));
    say("approve", "cleo").problem(403, "permission_denied");
    say("withdraw", "ada").problem(403, "permission_denied");
    assert_eq!(say("approve", "ada").ok()["state"], "pending");
    assert_eq!(champion(&server), 1);
    let done = say("approve", "bob").ok();
    assert_eq!((&done["state"], champion(&server)), (&json!("approved"), 2));
    assert!(items(&done["gates"]).iter().all(|gate| gate["passed"] == true), "{done:#}");
    say("reject", "dan").problem(409, "conflict");
    assert_eq!(server.get(&request).ok(), done);
    let listed = server.get(&format!("{MODEL}/approvals?state=approved&alias=champion")).ok();
    assert_eq!(items(&listed), [done]);
    assert!(items(&server.get(&format!("{MODEL}/approvals?state=pending")).ok()).is_empty());

    // Page by page, newest first, and nothing twice.
    let (mut kinds, mut before) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{MODEL}/history?limit=2{before}")).ok();
        kinds.extend(items(&page["events"]).iter().map(|event| text(&event["kind"]).to_owned()));
        match page["next"].as_u64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    let told = [
        "alias.moved",
        "approval.approved",
        "approval.given",
        "approval.asked",
        "alias.protected",
        "alias.moved",
        "version.registered",
        "version.registered",
        "version.registered",
        "model.created",
    ];
    assert_eq!(kinds, told);
    let of_version = server.get(&format!("{MODEL}/history?version=2")).ok();
    assert_eq!(items(&of_version["events"]).len(), 1);
    assert_eq!(items(&server.get(&format!("{MODEL}/history?alias=champion")).ok()["events"]).len(), 6);
    server.get(&format!("{MODEL}/history?alias=champion&version=1")).problem(400, "invalid_argument");
    server.get("/api/v1/models/papre/history").problem(404, "not_found");
}

#[test]
fn a_closed_gate_or_a_wrong_rule_says_what_is_wrong_and_writes_nothing() {
    let (server, _data) = shelf(2);
    let put = |body: Value| server.put(&format!("{MODEL}/aliases/champion/protection"), &body);
    for (body, word) in [
        (json!({"approvals": 0}), "0 approvals"),
        (json!({"gates": []}), "approvals"),
        (json!({"approvals": 1, "gates": [{"metric": {"key": "auc"}}]}), "has no bound"),
        (json!({"approvals": 1, "gates": [{"is_pretty": true}]}), "is_pretty"),
        (json!({"approvals": 1, "gates": [{"safe_format": false}]}), "switched off"),
        (json!({"approvals": 1, "actor": ""}), "actor"),
    ] {
        let detail = put(body.clone()).problem(400, "invalid_argument");
        assert!(detail.contains(word), "{body}: {detail}");
    }
    assert!(items(&server.get(&format!("{MODEL}/protections")).ok()).is_empty());
    protect(&server, 1, &json!([{"metric": {"key": "auc", "at_least": 0.9}}, {"has_lineage": true}]));
    let asked = ask(&server, 2, "cleo");
    let path = format!("{MODEL}/approvals/{}/approve", text(&asked["id"]));
    let detail = server.post(&path, &json!({"actor": "ada"})).problem(409, "conflict");
    assert!(detail.contains("auc is 0.7") && detail.contains("has lineage"), "{detail}");
    assert_eq!(champion(&server), 1);
    server
        .post(&format!("{MODEL}/approvals/00000000000000000000000000000000/approve"), &json!({"actor": "ada"}))
        .problem(404, "not_found");
    server.post(&format!("{MODEL}/approvals/x/approve"), &json!({"actor": "ada"})).problem(400, "invalid_argument");
    server
        .post(&format!("{MODEL}/approvals"), &json!({"alias": "champion", "version": 7, "actor": "a"}))
        .problem(404, "not_found");
    server
        .post(&format!("{MODEL}/approvals"), &json!({"alias": "free", "version": 2, "actor": "a"}))
        .problem(409, "conflict");
}

/// What a command prints when it succeeds.
#[track_caller]
fn printed(server: &Server, args: &[&str]) -> String {
    let output = millpond(&[&["--url", &server.url, "models"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_command_line_protects_asks_and_approves() {
    let (server, _data) = shelf(3);
    let gate = r#"{"metric":{"key":"auc","at_least":0.65}}"#;
    let said = printed(&server, &["protect", "paper", "champion", "--gate", gate, "--actor", "ada"]);
    assert_eq!(said, "champion of paper is protected: it moves when 1 approve\n");
    assert!(printed(&server, &["protections", "paper"]).contains("champion"));
    let asked = printed(&server, &["ask", "paper", "champion", "2", "--actor", "cleo", "--json"]);
    let asked: Value = serde_json::from_str(&asked).expect("JSON");
    let id = text(&asked["id"]);
    assert!(printed(&server, &["approvals", "paper", "--state", "pending"]).contains(id));
    let said = printed(&server, &["approve", "paper", id, "--actor", "ada", "--comment", "fine"]);
    assert_eq!(said, "approved: champion now points at paper/2\n");
    let third = printed(&server, &["ask", "paper", "champion", "3", "--actor", "cleo", "--json"]);
    let third: Value = serde_json::from_str(&third).expect("JSON");
    let third = text(&third["id"]);
    assert_eq!(
        printed(&server, &["reject", "paper", third, "--actor", "ada"]),
        format!("request {third} is rejected\n")
    );
    let again = printed(&server, &["ask", "paper", "champion", "3", "--actor", "cleo"]);
    let again = again.split([' ', ':']).nth(1).expect("an id");
    assert_eq!(
        printed(&server, &["withdraw", "paper", again, "--actor", "cleo"]),
        format!("request {again} is withdrawn\n")
    );
    assert!(
        printed(&server, &["history", "paper", "--alias", "champion", "--limit", "1"]).contains("approval.withdrawn")
    );
    assert_eq!(
        printed(&server, &["unprotect", "paper", "champion", "--actor", "ada"]),
        "champion of paper is not protected\n"
    );
    printed(&server, &["alias", "paper", "champion", "3"]);
    assert_eq!(champion(&server), 3);
}

#[test]
fn grpc_does_the_same() {
    let (server, _data) = shelf(2);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let channel =
            Channel::from_shared(server.url.clone()).expect("an address").connect().await.expect("it connects");
        let mut registry = RegistryClient::new(channel.clone());
        let mut client = ApprovalsClient::new(channel);
        let of = |model: &str| model.to_owned();
        let rule = ProtectAliasRequest {
            model: of("paper"),
            alias: of("champion"),
            approvals: 1,
            gates: vec![to_struct(json!({"has_signature": true}))],
            actor: of("ada"),
            ..ProtectAliasRequest::default()
        };
        client.protect_alias(rule.clone()).await.expect("it is protected");
        let wrong = ProtectAliasRequest { gates: vec![to_struct(json!({"is_pretty": true}))], ..rule };
        let refused = client.protect_alias(wrong).await.expect_err("no such gate");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("gates[0]"), "{refused:?}");
        let known = client.list_protections(ListProtectionsRequest { model: of("paper") }).await.expect("a list");
        assert_eq!(known.into_inner().protections.len(), 1);

        let moved = SetAliasRequest { model: of("paper"), alias: of("champion"), version: 2, reason: of("") };
        let refused = registry.set_alias(moved).await.expect_err("it is protected");
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("millpond models ask paper champion 2"), "{refused:?}");

        let ask =
            AskRequest { model: of("paper"), alias: of("champion"), version: 2, reason: of("go"), actor: of("cleo") };
        let asked = client.ask(ask).await.expect("a request").into_inner();
        assert_eq!(asked.state, "pending");
        let waiting = ListApprovalsRequest { model: of("paper"), state: of("pending"), ..Default::default() };
        assert_eq!(client.list_approvals(waiting).await.expect("a list").into_inner().approvals.len(), 1);
        let say = |verdict: &str, actor: &str| DecideRequest {
            model: of("paper"),
            id: asked.id.clone(),
            verdict: of(verdict),
            actor: of(actor),
            comment: of(""),
        };
        assert_eq!(client.decide(say("approve", "cleo")).await.expect_err("her own").code(), Code::PermissionDenied);
        assert_eq!(client.decide(say("bless", "ada")).await.expect_err("no such word").code(), Code::InvalidArgument);
        assert_eq!(client.decide(say("approve", "ada")).await.expect("approved").into_inner().state, "approved");
        assert_eq!(client.decide(say("approve", "bob")).await.expect_err("too late").code(), Code::FailedPrecondition);
        let history = GetHistoryRequest { model: of("paper"), alias: of("champion"), limit: 2, ..Default::default() };
        let history = client.get_history(history).await.expect("a history").into_inner();
        assert_eq!(history.events.len(), 2);
        assert!(history.next > 0);
        let lift =
            UnprotectAliasRequest { model: of("paper"), alias: of("champion"), reason: of(""), actor: of("ada") };
        client.unprotect_alias(lift).await.expect("it is lifted");
    });
    assert_eq!(champion(&server), 2);
}

#[test]
fn approvers_at_two_servers_of_one_postgres_decide_once() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = runtime.block_on(storage::testing::Postgres::shared().database());
    let start = || {
        let data = tempfile::tempdir().expect("a temporary directory");
        (Server::start_with(data.path(), &["--set", &format!("metadata.url={url}")]), data)
    };
    let (one, two) = (start(), start());
    let call = |path: &str, body: &Value| {
        let path = format!("/api/2.0/mlflow/{path}");
        one.0.call("POST", &path, "application/json", body.to_string().as_bytes()).ok()
    };
    call("registered-models/create", &json!({"name": "paper"}));
    for _ in 0..2 {
        call("model-versions/create", &json!({"name": "paper", "source": "s3://bucket/paper"}));
    }
    one.0.put(&format!("{MODEL}/aliases/champion"), &json!({"version": 1})).ok();
    protect(&two.0, 1, &json!([]));
    let refused = two.0.put(&format!("{MODEL}/aliases/champion"), &json!({"version": 2}));
    refused.problem(403, "permission_denied");
    let asked = ask(&two.0, 2, "cleo");
    let path = format!("{MODEL}/approvals/{}/approve", text(&asked["id"]));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let approvers: Vec<_> = (0..8)
            .map(|n| {
                let server = if n % 2 == 0 { &one.0 } else { &two.0 };
                let path = &path;
                scope.spawn(move || server.post(path, &json!({"actor": format!("p{n}")})).status)
            })
            .collect();
        approvers.into_iter().map(|approver| approver.join().expect("it ends")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
    let history = two.0.get(&format!("{MODEL}/history?alias=champion")).ok();
    let of = |kind: &str| items(&history["events"]).iter().filter(|event| event["kind"] == kind).count();
    assert_eq!((of("approval.approved"), of("alias.moved"), champion(&one.0)), (1, 2, 2));
}
