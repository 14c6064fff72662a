//! `kill -9` during uploads, batches and registrations: what was acknowledged is there, and nothing half-made is seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::mpsc::{Sender, channel},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    FILES, UPLOADS,
    bucket::Shared,
    direct::Upload,
    get, listed, noise,
    raw::{Reply, try_send},
    run,
    support::Server,
};

const ROUNDS: u32 = 4;
const SEED: u64 = 20_261_125;

/// Something the server said yes to.
enum Acked {
    /// By name, which says what is in it.
    File(String),
    /// Step of a batch.
    Batch(u32),
    /// Number and contents.
    Version(u64, String),
}

#[derive(Default)]
struct Ledger {
    files: BTreeSet<String>,
    batches: BTreeSet<u32>,
    versions: BTreeMap<u64, String>,
}

impl Ledger {
    fn take(&mut self, acked: Acked) {
        match acked {
            Acked::File(name) => assert!(self.files.insert(name)),
            Acked::Batch(step) => assert!(self.batches.insert(step)),
            Acked::Version(number, contents) => {
                assert!(self.versions.insert(number, contents).is_none(), "version {number} was given twice");
            }
        }
    }
}

/// A run, and where its files lie.
struct Work<'a> {
    server: &'a Server,
    run: &'a str,
    root: &'a str,
    round: u32,
}

impl Work<'_> {
    /// `None` once the server is dead. A refusal is a failure of the test.
    fn call(&self, method: &str, path: &str, body: &[u8]) -> Option<Reply> {
        let kind = if method == "POST" { "application/json" } else { "application/octet-stream" };
        // An answer of which the end is missing is none.
        let reply = try_send(self.server, method, path, &[("content-type", kind)], body)?;
        let whole = reply.headers.get("content-length").is_none_or(|length| *length == reply.body.len().to_string());
        whole.then(|| reply.ok())
    }

    fn put_files(&self, kind: &str, length: usize, acked: &Sender<Acked>) -> Option<()> {
        for turn in 0.. {
            let (name, bytes) = file(kind, self.round, turn, length + 997 * turn as usize);
            self.call("PUT", &format!("{FILES}/{}/{name}", self.root), &bytes)?;
            acked.send(Acked::File(name)).ok()?;
        }
        None
    }

    fn put_parts(&self, acked: &Sender<Acked>) -> Option<()> {
        for turn in 0.. {
            let (name, bytes) = file("parts", self.round, turn, (6 << 20) + 997 * turn as usize);
            let parts: Vec<&[u8]> = bytes.chunks(5 << 20).collect();
            let upload = Upload::create(self.server, self.root, &name, parts.len())?;
            let sent: Option<Vec<Value>> = (1..).zip(&parts).map(|(at, part)| upload.try_part(at, part)).collect();
            let sent = sent?;
            let completed = upload.ask("complete", &json!({"parts": sent}))?;
            if completed.body.is_empty() {
                return None;
            }
            assert_eq!(completed.ok().json(), json!({}));
            acked.send(Acked::File(name)).ok()?;
        }
        None
    }

    fn log_batches(&self, acked: &Sender<Acked>) -> Option<()> {
        for turn in 0.. {
            let step = self.round * 1_000_000 + turn;
            let metric = |key: &str| json!({"key": key, "value": f64::from(step) / 4.0, "step": step, "timestamp": 1});
            let tag = json!({"key": format!("t{step}"), "value": step.to_string()});
            let batch = json!({"run_id": self.run, "metrics": [metric("loss"), metric("gain")], "tags": [tag]});
            self.call("POST", "/api/2.0/mlflow/runs/log-batch", batch.to_string().as_bytes())?;
            acked.send(Acked::Batch(step)).ok()?;
        }
        None
    }

    fn register(&self, acked: &Sender<Acked>) -> Option<()> {
        for turn in 0.. {
            let contents = format!("not much of a model, {}-{turn}", self.round);
            let files = json!({"model.onnx": STANDARD.encode(&contents)});
            let new = json!({"run": self.run, "files": files, "signature": {"inputs": [], "outputs": []}});
            let made = self.call("POST", "/api/v1/models/paper/versions", new.to_string().as_bytes())?.json();
            acked.send(Acked::Version(made["version"].as_u64().expect("a number"), contents)).ok()?;
        }
        None
    }
}

/// Writes until the server is dead.
type Writer = fn(&Work<'_>, &Sender<Acked>) -> Option<()>;

/// A file that says by its name what is in it.
fn file(kind: &str, round: u32, turn: u32, length: usize) -> (String, Vec<u8>) {
    let seed = round * 1000 + turn;
    (format!("{kind}-{seed}-{length}"), noise(length, seed))
}

fn contents(name: &str) -> Vec<u8> {
    let mut parts = name.rsplit('-');
    let length = parts.next().and_then(|length| length.parse().ok()).expect("a length");
    noise(length, parts.next().and_then(|seed| seed.parse().ok()).expect("a seed"))
}

/// Writes from all sides until the server, killed after `limit` acknowledgements and some of each size of file, is dead.
fn write_until_killed(work: &Work<'_>, limit: usize, ledger: &mut Ledger) {
    let (sender, acked) = channel();
    let kept: Vec<Acked> = thread::scope(|scope| {
        let writers: [Writer; 5] = [
            |work, acked| work.put_files("small", 20_000, acked),
            |work, acked| work.put_files("large", 9 << 20, acked),
            |work, acked| work.put_parts(acked),
            |work, acked| work.log_batches(acked),
            |work, acked| work.register(acked),
        ];
        for write in writers {
            let sender = sender.clone();
            scope.spawn(move || write(work, &sender));
        }
        drop(sender);
        let slow = |acked: &Acked| matches!(acked, Acked::File(name) if !name.starts_with("small"));
        let (mut kept, mut enough) = (Vec::new(), limit);
        while kept.len() < enough {
            kept.push(acked.recv().expect("the writers do not end by themselves"));
            // Not at the moment of such an acknowledgement: others are to be under way.
            if kept.len() == enough && kept.iter().filter(|acked| slow(acked)).count() < 2 {
                enough += limit / 4;
            }
        }
        work.server.kill_now();
        // Ends when every writer has found the server dead.
        kept.extend(acked.iter());
        kept
    });
    kept.into_iter().for_each(|acked| ledger.take(acked));
}

fn check(server: &Server, run: &str, root: &str, ledger: &Ledger) {
    let seen: BTreeMap<String, u64> = listed(server, root).into_iter().collect();
    for name in &ledger.files {
        assert!(seen.contains_key(name), "{name} is gone");
    }
    for (name, bytes) in &seen {
        let expected = contents(name);
        assert_eq!(*bytes, expected.len() as u64, "{name}");
        assert!(get(server, &format!("{root}/{name}")).ok().body == expected, "{name} is not what was sent");
    }
    let tags = server.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).ok();
    let tags: BTreeSet<u32> = tags["run"]["data"]["tags"]
        .as_array()
        .map(|tags| tags.iter().filter_map(|tag| tag["key"].as_str()?.strip_prefix('t')?.parse().ok()).collect())
        .unwrap_or_default();
    for key in ["loss", "gain"] {
        let path = format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key={key}");
        let history = server.get(&path).ok();
        let mut steps = BTreeSet::new();
        for point in history["metrics"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let step = point["step"].as_u64().and_then(|step| u32::try_from(step).ok()).expect("a step");
            assert_eq!(point["value"], json!(f64::from(step) / 4.0));
            steps.insert(step);
        }
        assert!(ledger.batches.is_subset(&steps) && ledger.batches.is_subset(&tags), "a batch of {key} is gone");
    }
    let all = server.get("/api/v1/models/paper/versions").ok();
    let numbers: Vec<u64> =
        all.as_array().map(|all| all.iter().filter_map(|v| v["version"].as_u64()).collect()).unwrap_or_default();
    for number in &numbers {
        let file = server.get(&format!("/api/v1/models/paper/versions/{number}/files/model.onnx")).ok();
        if let Some(contents) = ledger.versions.get(number) {
            assert_eq!(file, contents.as_str());
        }
    }
    let unique: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(unique.len(), numbers.len());
    assert!(ledger.versions.keys().all(|number| unique.contains(number)), "a version is gone: {numbers:?}");
}

#[test]
fn whatever_was_acknowledged_survives_in_a_bucket_and_nothing_half_made_is_seen() {
    let shared = Shared::new();
    survives(|data| shared.start(data));
}

#[test]
fn whatever_was_acknowledged_survives_on_disk_and_nothing_half_made_is_seen() {
    survives(Server::start);
}

fn survives(start: impl Fn(&Path) -> Server) {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = start(data.path());
    let (id, root) = run(&server);
    let mut ledger = Ledger::default();
    let mut random = SEED;
    for round in 0..ROUNDS {
        // xorshift64: any spread of moments will do, as long as it is the same each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let work = Work { server: &server, run: &id, root: &root, round };
        write_until_killed(&work, 40 + (random % 60) as usize, &mut ledger);
        server = start(data.path());
        check(&server, &id, &root, &ledger);
    }
    let kinds = ["small", "large", "parts"].map(|kind| ledger.files.iter().filter(|f| f.starts_with(kind)).count());
    let counts = [kinds[0], kinds[1], kinds[2], ledger.batches.len(), ledger.versions.len()];
    eprintln!("acknowledged: small, large, in parts, batches, versions: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "every kind was acknowledged: {counts:?}");
    // The server is alive and well, and takes more.
    let more =
        try_send(&server, "POST", &format!("{UPLOADS}/create/{root}"), &[], b"{\"path\": \"x\", \"num_parts\": 1}");
    more.expect("an answer").ok();
}
