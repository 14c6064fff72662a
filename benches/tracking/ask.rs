//! What is asked, with the data it is asked about.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use ureq::{Agent, Body, http::Response};

use crate::server::Subject;

/// Runs that are searched.
const RUNS: usize = 5_000;
/// Points of the curve that both draw.
const POINTS: usize = 100_000;
/// Metrics of one log-batch: as many as there may be.
const BATCH: usize = 1_000;
/// Connections that load data.
const LOADERS: usize = 8;
const FILE_BYTES: usize = 64 << 20;
/// A fixed instant, in milliseconds, that everything happens after.
const THEN: usize = 1_700_000_000_000;

/// What one kind of call costs.
pub struct Cost {
    /// Of the server, for one call.
    pub cpu_ms: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// A server that holds the data, and one connection to it.
pub struct Asker<'a> {
    subject: &'a Subject,
    agent: Agent,
    /// Where runs are made that nobody searches.
    scratch: String,
    searched: String,
    run: String,
    file: Arc<[u8]>,
    /// Numbers that no two calls share.
    next: AtomicUsize,
}

fn agent() -> Agent {
    Agent::config_builder().max_idle_connections_per_host(1).build().into()
}

impl<'a> Asker<'a> {
    /// Fills a server through its API: `1 / scale` of the data.
    pub fn load(subject: &'a Subject, scale: usize) -> Self {
        // Cheap noise, so that nobody can squeeze it.
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let file: Vec<u8> = noise.take(FILE_BYTES / 8).flatten().collect();
        let mut asker = Self {
            subject,
            agent: agent(),
            scratch: String::new(),
            searched: String::new(),
            run: String::new(),
            file: file.into(),
            next: AtomicUsize::new(1),
        };
        let experiment =
            |asker: &Self, name: &str| text(&asker.post("experiments/create", &json!({"name": name}))["experiment_id"]);
        asker.scratch = experiment(&asker, "scratch");
        asker.searched = experiment(&asker, "searched");
        asker.run = asker.create(&asker.scratch, 0);
        asker.in_parallel(LOADERS, RUNS / scale, |asker, n| asker.searched_run(n));
        asker.curve("curve", POINTS / scale);
        asker.post("registered-models/create", &json!({"name": "model"}));
        let root = format!("mlflow-artifacts:/{}/{}/artifacts", asker.scratch, asker.run);
        asker.post(
            "model-versions/create",
            &json!({"name": "model", "source": format!("{root}/model"), "run_id": asker.run}),
        );
        asker.post("registered-models/alias", &json!({"name": "model", "alias": "champion", "version": "1"}));
        asker.upload(0);
        asker
    }

    /// The curve that only one of the servers is asked to draw.
    pub fn load_long(&self, points: usize) {
        self.curve("long", points);
    }

    fn curve(&self, key: &str, points: usize) {
        self.in_parallel(1, points / BATCH, |asker, n| {
            let point = |at: usize| json!({"key": key, "value": wave(at), "timestamp": THEN + at, "step": at});
            let metrics: Vec<Value> = (n * BATCH..(n + 1) * BATCH).map(point).collect();
            asker.post("runs/log-batch", &json!({"run_id": asker.run, "metrics": metrics}));
        });
    }

    fn searched_run(&self, n: usize) {
        let run = self.create(&self.searched, n);
        let kind = ["tree", "forest", "linear", "net"][n % 4];
        let metric = |key: &str, value: f64| json!({"key": key, "value": value, "timestamp": THEN + n, "step": 1});
        let pair = |key: &str, value: &str| json!({"key": key, "value": value});
        self.post(
            "runs/log-batch",
            &json!({
                "run_id": run,
                "metrics": [metric("loss", wave(n)), metric("auc", wave(n + 1)), metric("rate", wave(n + 2))],
                "params": [pair("kind", kind), pair("depth", &(n % 10).to_string()), pair("seed", &n.to_string())],
                "tags": [pair("team", ["brook", "weir", "mill"][n % 3]), pair("stage", "dev")],
            }),
        );
        self.post("runs/update", &json!({"run_id": run, "status": "FINISHED", "end_time": THEN + n}));
    }

    /// The same over a connection of its own.
    fn another(&self) -> Self {
        Self {
            subject: self.subject,
            agent: agent(),
            scratch: self.scratch.clone(),
            searched: self.searched.clone(),
            run: self.run.clone(),
            file: Arc::clone(&self.file),
            next: AtomicUsize::new(0),
        }
    }

    /// Calls so often over so many connections; waits for all.
    fn in_parallel(&self, clients: usize, times: usize, call: impl Fn(&Self, usize) + Sync) -> Vec<Duration> {
        let turn = AtomicUsize::new(0);
        let mut took = Vec::with_capacity(times);
        thread::scope(|scope| {
            let work = || {
                let own = self.another();
                let mut took = Vec::new();
                loop {
                    let n = turn.fetch_add(1, Ordering::Relaxed);
                    if n >= times {
                        return took;
                    }
                    let started = Instant::now();
                    call(&own, n);
                    took.push(started.elapsed());
                }
            };
            let workers: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                took.extend(worker.join().expect("a client ends"));
            }
        });
        took
    }

    /// Asks one question so often, after a few times that do not count.
    pub fn measure(&self, clients: usize, times: usize, ask: fn(&Asker<'_>, usize)) -> Cost {
        let warm = clients * 2;
        // Numbers go on from question to question, so that nothing is logged twice.
        let first = self.next.fetch_add(times + warm, Ordering::Relaxed);
        self.in_parallel(clients, warm, |asker, n| ask(asker, first + n));
        let (before, since) = (self.subject.cpu_seconds(), Instant::now());
        let mut took = self.in_parallel(clients, times, |asker, n| ask(asker, first + warm + n));
        let rest = self.subject.idle.cpu_share * since.elapsed().as_secs_f64();
        let cpu = (self.subject.cpu_seconds() - before - rest).max(0.0);
        took.sort();
        Cost { cpu_ms: cpu * 1e3 / float(times), p50: quantile(&took, 0.50), p99: quantile(&took, 0.99) }
    }

    pub fn constant(&self, _: usize) {
        read(self.agent.get(format!("{}/health", self.subject.url)).call());
    }

    pub fn log_metric(&self, n: usize) {
        let point = json!({"run_id": self.run, "key": "single", "value": wave(n), "timestamp": THEN + n, "step": n});
        self.post("runs/log-metric", &point);
    }

    pub fn log_batch(&self, n: usize) {
        let point = |at: usize| {
            let (key, step) = (format!("m{}", at % 10), n * BATCH + at);
            json!({"key": key, "value": wave(at), "timestamp": THEN + step, "step": step})
        };
        let metrics: Vec<Value> = (0..BATCH).map(point).collect();
        self.post("runs/log-batch", &json!({"run_id": self.run, "metrics": metrics}));
    }

    pub fn whole_run(&self, n: usize) {
        let run = self.create(&self.scratch, n);
        let metric = json!({"run_id": run, "key": "loss", "value": wave(n), "timestamp": THEN + n, "step": 1});
        self.post("runs/log-metric", &metric);
        self.post("runs/update", &json!({"run_id": run, "status": "FINISHED", "end_time": THEN + n}));
    }

    pub fn search(&self, _: usize) {
        let found = self.post(
            "runs/search",
            &json!({
                "experiment_ids": [self.searched], "max_results": 100, "order_by": ["metrics.loss ASC"],
                "filter": "metrics.loss < 0.5 AND params.kind = 'tree' AND tags.team != 'weir'",
            }),
        );
        assert!(found["runs"].as_array().is_some_and(|runs| runs.len() > 20), "runs are found");
    }

    pub fn list(&self, _: usize) {
        let found = self.post("runs/search", &json!({"experiment_ids": [self.searched], "max_results": 1_000}));
        assert!(found["runs"].as_array().is_some_and(|runs| runs.len() >= 500), "runs are found");
    }

    pub fn chart(&self, _: usize) {
        self.draw("curve");
    }

    pub fn chart_long(&self, _: usize) {
        self.draw("long");
    }

    fn draw(&self, key: &str) {
        let route = "ajax-api/2.0/mlflow/metrics/get-history-bulk-interval";
        let url = format!("{}/{route}?run_ids={}&metric_key={key}&max_results=2500", self.subject.url, self.run);
        let answer: Value = serde_json::from_slice(&read(self.agent.get(url).call())).expect("JSON");
        assert!(answer["metrics"].as_array().is_some_and(|points| points.len() >= 1_000), "a curve has points");
    }

    pub fn alias(&self, _: usize) {
        let route = "api/2.0/mlflow/registered-models/alias?name=model&alias=champion";
        let answer = read(self.agent.get(format!("{}/{route}", self.subject.url)).call());
        assert!(!answer.is_empty());
    }

    pub fn upload(&self, n: usize) {
        read(self.agent.put(self.file_url(n)).send(&self.file[..]));
    }

    /// What was uploaded first.
    pub fn download(&self, _: usize) {
        let body = self.agent.get(self.file_url(0)).call().expect("the server answers").into_body();
        let bytes = io::copy(&mut body.into_reader(), &mut io::sink()).expect("a body");
        assert_eq!(usize::try_from(bytes), Ok(FILE_BYTES));
    }

    fn file_url(&self, n: usize) -> String {
        let place = format!("{}/{}/artifacts/file-{n}.bin", self.scratch, self.run);
        format!("{}/api/2.0/mlflow-artifacts/artifacts/{place}", self.subject.url)
    }

    fn create(&self, experiment: &str, n: usize) -> String {
        let made = self.post("runs/create", &json!({"experiment_id": experiment, "start_time": THEN + n}));
        text(&made["run"]["info"]["run_id"])
    }

    fn post(&self, route: &str, body: &Value) -> Value {
        let url = format!("{}/api/2.0/mlflow/{route}", self.subject.url);
        let sent = self.agent.post(&url).content_type("application/json").send(&body.to_string());
        serde_json::from_slice(&read(sent)).unwrap_or_else(|error| panic!("{url}: {error}"))
    }
}

/// The whole body of a good answer.
fn read(answer: Result<Response<Body>, ureq::Error>) -> Vec<u8> {
    let body = answer.expect("the server answers").into_body();
    body.into_with_config().limit(u64::MAX).read_to_vec().expect("a body")
}

/// A number between 0 and 1 that looks like a measurement.
fn wave(n: usize) -> f64 {
    (float(n) * 0.37).sin().mul_add(0.4, 0.5) + float(n % 17) / 170.0
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "small enough")]
const fn float(n: usize) -> f64 {
    n as f64
}

/// The least time that a share of the sorted times does not exceed.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let rank = (float(sorted.len()) * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}
