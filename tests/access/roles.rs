//! Every call as everybody.

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::{Value, json};

use crate::{
    As, Guarded, headers,
    support::{
        millpond,
        sensors::{items, text},
    },
};

/// One server with a second project, for the tests that only knock.
static GUARDED: LazyLock<Guarded> = LazyLock::new(|| {
    let guarded = Guarded::fresh().leashed();
    guarded.create_project("other");
    guarded
});

const ROLES: [(&str, &[&str]); 5] = [
    ("viewer", &["read"]),
    ("reviewer", &["read", "review"]),
    ("engineer", &["read", "review", "predict", "write"]),
    ("operator", &["read", "review", "predict", "write", "operate"]),
    ("admin", &["read", "review", "predict", "write", "operate", "administer"]),
];

struct Call {
    method: String,
    route: String,
    right: String,
}

/// What the program says it checks.
fn calls() -> Vec<Call> {
    let output = millpond(&["permissions", "--json"]);
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let read = |call: &Value| {
        let member = |name: &str| text(&call[name]).to_owned();
        Call { method: member("method"), route: member("route"), right: member("right") }
    };
    items(&all).iter().map(read).collect()
}

impl Call {
    /// A path that reaches the route and names nothing that exists.
    fn path(&self) -> String {
        let mut path = String::new();
        for part in self.route.split('/').skip(1) {
            path.push('/');
            path.push_str(if !part.starts_with('{') {
                part
            } else if part == "{version}" {
                "1"
            } else {
                "nothing"
            });
        }
        path
    }

    fn is_rpc(&self) -> bool {
        self.route.split('/').nth(1).is_some_and(|service| service.contains('.'))
            && self.route.matches('/').count() == 2
    }

    /// What the call comes to: HTTP's status, and where the call is one of gRPC that its status stands for.
    fn ask(&self, who: &As) -> u16 {
        let kind = if self.is_rpc() { "application/grpc" } else { "application/json" };
        let (head, answer) = GUARDED.server.call_with(&self.method, &self.path(), &headers(who, kind), b"");
        let grpc = head.get("grpc-status").and_then(|code| code.to_str().ok());
        match grpc {
            Some("16") => 401,
            Some("7") => 403,
            Some("5") => 404,
            _ => answer.status,
        }
    }
}

#[test]
fn every_call_is_let_through_for_those_who_may_and_for_nobody_else() {
    let roles = ROLES.map(|(role, rights)| (role, rights, As::token(&GUARDED.token("default", role, role, &[]))));
    let (root, calls) = (As::token(&GUARDED.root), calls());
    assert!(calls.len() > 120, "{}", calls.len());
    for call in &calls {
        let name = format!("{} {}", call.method, call.route);
        let open = call.right == "open";
        let nobody = call.ask(&As::default());
        assert_eq!(nobody == 401, !open, "{name} without a token: {nobody}");
        assert_ne!(call.ask(&root), 403, "{name} as the master of the house");
        for (role, rights, who) in &roles {
            let status = call.ask(who);
            let may = open || rights.contains(&call.right.as_str());
            assert_eq!(status == 403, !may, "{name} as {role}: {status}");
            assert_ne!(status, 401, "{name} as {role}");
            // 501 is how MLflow's client learns that a call is not offered.
            assert!(status < 500 || status == 501 || call.is_rpc(), "{name} as {role}: {status}");
        }
    }
}

#[test]
fn no_call_lets_the_token_of_one_project_into_another() {
    let stranger = As::token(&GUARDED.token("other", "stranger", "admin", &[])).within("default");
    for call in calls().iter().filter(|call| call.right != "open") {
        assert_eq!(call.ask(&stranger), 404, "{} {}", call.method, call.route);
    }
}

#[test]
fn no_call_takes_a_token_that_does_not_hold() {
    let admin = As::token(&GUARDED.root);
    let made = GUARDED.ask(&admin, "POST", "/api/v1/tokens", &json!({"name": "gone", "role": "admin"})).ok();
    GUARDED.ask(&admin, "DELETE", &format!("/api/v1/tokens/{}", text(&made["id"])), &Value::Null).ok();
    let (gone, calls) = (text(&made["secret"]).to_owned(), calls());
    let wrong = [
        gone.clone(),
        gone.replace("default", "nowhere"),
        format!("{}{}", &gone[..gone.len() - 1], if gone.ends_with('0') { '1' } else { '0' }),
        "sesame".to_owned(),
    ];
    for (n, call) in calls.iter().filter(|call| call.right != "open").enumerate() {
        let status = call.ask(&As::token(&wrong[n % wrong.len()]));
        // Beyond so many a second they are not even looked at.
        let turned_away = status == 401 || status == 429 || (call.is_rpc() && status == 200);
        assert!(turned_away, "{} {}: {status}", call.method, call.route);
    }
}

#[test]
fn scopes_narrow_a_role_and_never_widen_it() {
    let caller = As::token(&GUARDED.token("default", "checkout", "engineer", &["predict"]));
    for call in calls().iter().filter(|call| call.right != "open") {
        let status = call.ask(&caller);
        assert_eq!(status == 403, call.right != "predict", "{} {}: {status}", call.method, call.route);
    }
    let body = json!({"name": "x", "role": "viewer", "scopes": ["write"]});
    let refused =
        GUARDED.ask(&As::token(&GUARDED.root), "POST", "/api/v1/tokens", &body).problem(400, "invalid_argument");
    assert!(refused.contains("write"), "{refused}");
}

/// A17 to A20 of the catalogue of attacks: whatever comes, the answer is about what came, and about nothing inside.
#[test]
fn no_answer_to_nonsense_is_our_fault_or_tells_what_is_inside() {
    let root = As::token(&GUARDED.root);
    let deep = "[".repeat(20_000);
    let nonsense: [&[u8]; 9] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{\"name\": {\"a\": [1, 2, {}]}, \"name\": 1e400, \"version\": -1, \"x\": NaN}",
        b"{\"name\": \"'; DROP TABLE registry_models; --\", \"filter\": \"((((\", \"path\": \"../../etc/passwd\"}",
        b"\xff\xfe\x00\x01",
        b"a: &a [*a, *a]\n--- !!python/object/apply:os.system ['true']\n",
        deep.as_bytes(),
    ];
    let inside = [
        "SELECT ",
        "INSERT ",
        "sqlx",
        "sqlite",
        ".rs:",
        "panicked",
        "/tmp/",
        "registry_",
        "meta.db",
        "stack backtrace",
    ];
    for call in calls().iter().filter(|call| !call.is_rpc() && call.method != "GET") {
        for body in nonsense {
            let (_, answer) =
                GUARDED.server.call_with(&call.method, &call.path(), &headers(&root, "application/json"), body);
            let name = format!(
                "{} {} with {:?}",
                call.method,
                call.route,
                String::from_utf8_lossy(&body[..body.len().min(60)])
            );
            assert!(answer.status < 500 || answer.status == 501, "{name}: {} {}", answer.status, answer.body);
            // What came may come back.
            let said = answer.body.to_string().replace("DROP TABLE registry_models", "");
            // A member of Feast's requests.
            let said = said.replace("allow_registry_cache", "");
            let told = inside.iter().find(|word| said.contains(**word));
            assert!(told.is_none(), "{name}: {told:?} in {said}");
        }
    }
    GUARDED.get(&root, "/readyz").ok();
}

/// What the documents describe, and what is written down of MLflow's API, has to be among the rules: a new route that
/// was forgotten there is one that answers nobody, and is found here.
#[test]
fn every_route_that_is_described_has_a_rule() {
    let known: BTreeSet<(String, String)> = calls().into_iter().map(|call| (call.method, call.route)).collect();
    let document: Value = serde_json::from_slice(&millpond(&["openapi"]).stdout).expect("JSON");
    for (route, item) in document["paths"].as_object().expect("paths") {
        for method in ["get", "put", "post", "delete", "patch"].into_iter().filter(|method| item[method].is_object()) {
            assert!(known.contains(&(method.to_uppercase(), route.clone())), "{method} {route} has no rule");
        }
    }
    let files = proto_methods();
    assert!(files.len() > 30);
    for route in files {
        assert!(known.contains(&("POST".to_owned(), route.clone())), "{route} has no rule");
    }
}

/// `/package.Service/Method` of every call in `proto/`.
fn proto_methods() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(crate::support::root().join("proto/millpond")).expect("a folder") {
        let source = std::fs::read_to_string(entry.expect("a file").path()).expect("a file");
        let word = |line: &str, before: &str| {
            let rest = line.trim().strip_prefix(before)?;
            Some(rest.split([' ', '(', ';', '{']).next()?.to_owned())
        };
        let package = source.lines().find_map(|line| word(line, "package ")).expect("a package");
        let mut service = String::new();
        for line in source.lines() {
            if let Some(name) = word(line, "service ") {
                service = name;
            } else if let Some(method) = word(line, "rpc ") {
                found.push(format!("/{package}.{service}/{method}"));
            }
        }
    }
    found
}
