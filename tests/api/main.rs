//! The doors: the OpenAPI document, the pages, metrics and health over HTTP, and gRPC on the same port.

#[path = "../support/mod.rs"]
mod support;

mod document;
mod grpc;
mod metrics;
mod origin;
mod pages;

use std::sync::LazyLock;

use serde_json::{Value, json};
use support::{
    Server,
    sensors::{Page, START},
};

/// One server with the sensors example trained, for all tests.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let (server, data) = Server::fresh();
    server.leash(data);
    server.demo_sensors(Some(START));
    server
});

fn page(path: &str) -> Page {
    SERVER.page("GET", path, &[])
}

/// A question that the endpoint answers.
fn instance(check: &str) -> Value {
    json!({
        "check_id": check, "pump": "P03", "load": 0.8, "cycle_hour": 40.5, "shift": "late", "event_timestamp": START
    })
}
