//! Who asks and who approves is who holds the token.

use serde_json::json;

use crate::{As, Guarded, support::sensors::text};

#[test]
fn four_eyes_are_those_of_the_tokens_whatever_is_claimed() {
    let guarded = Guarded::fresh();
    let [ann, bob] = ["ann", "bob"].map(|name| As::token(&guarded.token("default", name, "operator", &[])));
    let run = guarded.ask(&ann, "POST", "/api/v1/runs", &json!({"experiment": "e"})).ok();
    // "bm90aGluZw==" is "nothing", which is no model, and need not be one here.
    let version =
        json!({"run": run["id"], "files": {"model.onnx": "bm90aGluZw=="}, "signature": {"inputs": [], "outputs": []}});
    guarded.ask(&ann, "POST", "/api/v1/models/paper/versions", &version).ok();
    let protect = json!({"approvals": 1, "reason": "people load it"});
    let protection = "/api/v1/models/paper/aliases/champion/protection";
    guarded.ask(&ann, "PUT", protection, &protect).problem(403, "permission_denied");
    guarded.ask(&As::token(&guarded.root), "PUT", protection, &protect).ok();

    let ask = json!({"alias": "champion", "version": 1, "reason": "the first", "actor": "eve"});
    let asked = guarded.ask(&ann, "POST", "/api/v1/models/paper/approvals", &ask).ok();
    assert_eq!(text(&asked["asked_by"]), "ann");
    let approve = format!("/api/v1/models/paper/approvals/{}/approve", text(&asked["id"]));
    let own = guarded.ask(&ann, "POST", &approve, &json!({"actor": "eve"}));
    assert!((400..500).contains(&own.status) && own.body.to_string().contains("`ann` asked for this"), "{}", own.body);
    let engineer = As::token(&guarded.token("default", "cleo", "engineer", &[]));
    guarded.ask(&engineer, "POST", &approve, &json!({})).problem(403, "permission_denied");
    let approved = guarded.ask(&bob, "POST", &approve, &json!({"actor": "ann"})).ok();
    assert_eq!((text(&approved["state"]), text(&approved["votes"][0]["actor"])), ("approved", "bob"));
    let moved = guarded.get(&As::token(&guarded.root), "/api/v1/audit?kind=alias.moved").ok();
    assert_eq!(text(&moved["events"][0]["actor"]), "bob");
}
