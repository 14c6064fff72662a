//! How long does a prediction take over HTTP, against the physical limit: the same HTTP stack answering a constant
//! (`GET /healthz`) in the same run?
//!
//! `cargo bench --profile dev --bench predict` builds nothing that the tests have not built; with cargo's own bench
//! profile the client and the server are optimised alike. Both questions are asked in turns, over as many connections
//! that stay open, each with one request at a time; the times are the client's, from sending to the answer read.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    Server,
    sensors::{ENDPOINT, START},
};
use ureq::Agent;

/// Requests of each kind over each connection.
const REQUESTS: usize = 2_000;
/// Requests of one kind in a row before the other kind has its turn.
const TURN: usize = 100;
/// Turns before anything is measured.
const WARM_TURNS: usize = 3;

/// Times of both kinds of request.
#[derive(Default)]
struct Times {
    constant: Vec<Duration>,
    predict: Vec<Duration>,
}

fn main() {
    // Cargo asks every bench that it lists for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let (server, _data) = Server::fresh();
    server.demo_sensors(Some(START));
    let profile = if cfg!(debug_assertions) { "dev profile" } else { "optimised" };
    println!("one row per prediction with 12 features looked up online, {profile}, {REQUESTS} requests per connection");
    println!(
        "{:>11}  {:>9}  {:>22}  {:>22}  {:>11}",
        "connections", "quantile", "constant (GET /healthz)", "predict", "ratio"
    );
    for connections in [1, 8] {
        let mut all = Times::default();
        let url = &server.url;
        thread::scope(|scope| {
            let clients: Vec<_> = (0..connections).map(|client| scope.spawn(move || ask(url, client))).collect();
            for client in clients {
                let times = client.join().expect("a client ends");
                all.constant.extend(times.constant);
                all.predict.extend(times.predict);
            }
        });
        all.constant.sort();
        all.predict.sort();
        for (name, share) in [("p50", 0.50), ("p99", 0.99)] {
            let (constant, predict) = (quantile(&all.constant, share), quantile(&all.predict, share));
            println!(
                "{connections:>11}  {name:>9}  {:>20.0} us  {:>19.0} us  {:>11.1}",
                micros(constant),
                micros(predict),
                predict.as_secs_f64() / constant.as_secs_f64()
            );
        }
    }
    assert_eq!(server.stop(), Some(0), "the server ends in order");
}

/// One client over one connection: turns of constants and predictions.
fn ask(url: &str, client: usize) -> Times {
    let agent: Agent = Agent::config_builder().max_idle_connections_per_host(1).build().into();
    let constant = format!("{url}/healthz");
    let predict = format!("{url}/api/v1/endpoints/{ENDPOINT}/predict");
    let mut times = Times::default();
    for turn in 0..WARM_TURNS + REQUESTS / TURN {
        let measured = turn >= WARM_TURNS;
        for _ in 0..TURN {
            let took = timed(|| agent.get(&constant).call());
            times.constant.extend(measured.then_some(took));
        }
        for request in 0..TURN {
            let body = json!({"instances": [{
                "check_id": format!("bench-{client}-{turn}-{request}"), "pump": format!("P{:02}", request % 10 + 1),
                "load": 0.7, "cycle_hour": 12.0, "shift": "late", "event_timestamp": START,
            }]});
            let body = body.to_string();
            let took = timed(|| agent.post(&predict).content_type("application/json").send(&body));
            times.predict.extend(measured.then_some(took));
        }
    }
    times
}

/// How long a request takes until its answer is read.
fn timed(send: impl FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Duration {
    let started = Instant::now();
    let answer = send().expect("the server answers").into_body().read_to_vec().expect("a body");
    let took = started.elapsed();
    assert!(!answer.is_empty());
    took
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The least time that a share of the sorted times does not exceed.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a small count"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}
