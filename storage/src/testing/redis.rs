//! Redis servers of the tests' own: one alone, or a cluster of three, with their files in a temporary directory, gone when
//! the tests are.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use redis::{FromRedisValue, RedisResult};

const PASSWORD: &str = "es-klappert-die-muehle";
/// Slots of every cluster.
const SLOTS: u16 = 16_384;
/// Servers of a cluster.
const MASTERS: u16 = 3;
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(5);

/// Waits until whoever started the servers is gone, however it went, and clears up.
const UNDERTAKER: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
for pid in "$DIR"/*/pid; do kill -9 "$(cat "$pid")" > /dev/null 2>&1; done
rm -rf "$DIR"
"#;

/// What of its data a server has on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing: it starts empty after a crash.
    Nothing,
    /// All but the last second or so (`appendfsync everysec`).
    AllButTheTail,
    /// Every acknowledged write (`appendfsync always`).
    Everything,
}

/// A Redis server that asks for a password, on a free port of the loopback. Dropped or killed with its process, it stops
/// and leaves nothing behind.
#[derive(Debug)]
pub struct Redis {
    node: Node,
    _camp: Camp,
}

/// Three masters without replicas that share all slots, each as [`Redis`] is.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Node>,
    _camp: Camp,
}

impl Redis {
    /// The one that all tests of a process share, which keeps nothing on disk: tests that stop or flush a server start one
    /// of their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Keeps::Nothing))
    }

    /// # Panics
    /// Where Redis is not installed or does not start.
    #[must_use]
    pub fn start(keeps: Keeps) -> Self {
        let camp = Camp::pitch();
        let node = Node::new(&camp.dir.join("alone"), keeps, false);
        node.up();
        Self { node, _camp: camp }
    }

    /// The server's address, with its password.
    #[must_use]
    pub fn url(&self) -> String {
        self.node.url()
    }

    /// Ends the server as a crash would (`kill -9`).
    pub fn kill(&self) {
        self.node.kill();
    }

    /// Starts the server again, with what it finds on disk.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn up(&self) {
        self.node.up();
    }

    /// Removes what the server, which is down, has on disk.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn forget(&self) {
        let files = self.node.dir.join("data");
        fs::remove_dir_all(&files).expect("its files can be removed");
        fs::create_dir(&files).expect("its folder can be made");
    }

    /// Copies what the server, which is down, has on disk to a folder that does not exist yet.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn copy_to(&self, folder: &Path) {
        copy(&self.node.dir.join("data"), folder);
    }

    /// Puts a copy in place of what the server, which is down, has on disk.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn put_back(&self, folder: &Path) {
        fs::remove_dir_all(self.node.dir.join("data")).expect("its files can be removed");
        copy(folder, &self.node.dir.join("data"));
    }

    /// Asks the server something, as in `["DBSIZE"]`.
    ///
    /// # Panics
    /// Where it does not answer, or with something else.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.node.ask(words).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// The same where the answer does not matter.
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn run(&self, words: &[&str]) {
        self.ask::<redis::Value>(words);
    }

    /// What stands in addresses and must stand in no log and no error.
    #[must_use]
    pub const fn password() -> &'static str {
        PASSWORD
    }
}

impl RedisCluster {
    /// The one that all tests of a process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisCluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Keeps::Nothing))
    }

    /// # Panics
    /// Where Redis is not installed, or the cluster does not become ready.
    #[must_use]
    pub fn start(keeps: Keeps) -> Self {
        let camp = Camp::pitch();
        let nodes: Vec<Node> =
            (0..MASTERS).map(|number| Node::new(&camp.dir.join(number.to_string()), keeps, true)).collect();
        let each = SLOTS.div_ceil(MASTERS);
        for (node, number) in nodes.iter().zip(0..) {
            node.up();
            let first = number * each;
            let last = (first + each).min(SLOTS) - 1;
            node.tell(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        for node in &nodes[1..] {
            let (port, bus) = (node.port.to_string(), node.bus.to_string());
            nodes[0].tell(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let cluster = Self { nodes, _camp: camp };
        cluster.settle();
        cluster
    }

    /// The address of one of the servers, with its password.
    #[must_use]
    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    /// How many servers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none; there always are some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Ends the server of that number, from 0, as a crash would (`kill -9`).
    pub fn kill(&self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts it again, with what it finds on disk, and waits until all slots are served.
    ///
    /// # Panics
    /// Where that does not come about.
    pub fn up(&self, number: usize) {
        self.nodes[number].up();
        self.settle();
    }

    /// Gives a slot, whose keys go along, to the server of that number.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let id = |node: &Node| node.ask::<String>(&["CLUSTER", "MYID"]).expect("its name");
        let slot = slot.to_string();
        let count = ["CLUSTER", "COUNTKEYSINSLOT", &slot];
        let from = self.nodes.iter().position(|node| owns(node, &slot)).expect("somebody has the slot");
        if from == to {
            return;
        }
        let (old, new) = (&self.nodes[from], &self.nodes[to]);
        new.tell(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(old)]);
        old.tell(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(new)]);
        while old.ask::<u64>(&count).expect("a count") > 0 {
            let keys: Vec<Vec<u8>> = old.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).expect("keys");
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(new.port).arg("").arg(0).arg(5_000).arg("AUTH").arg(PASSWORD).arg("KEYS");
            let mut to_old = old.connect().expect("a connection");
            migrate.arg(keys).query::<()>(&mut to_old).expect("moved");
        }
        for node in [new, old].into_iter().chain(&self.nodes) {
            node.tell(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(new)]);
        }
    }

    /// Asks every server the same.
    ///
    /// # Panics
    /// Where one does not answer.
    pub fn ask_all<T: FromRedisValue>(&self, words: &[&str]) -> Vec<T> {
        self.nodes.iter().map(|node| node.ask(words).unwrap_or_else(|e| panic!("{words:?}: {e}"))).collect()
    }

    fn settle(&self) {
        let begun = Instant::now();
        let ready = |node: &Node| {
            let info: String = node.ask(&["CLUSTER", "INFO"]).unwrap_or_default();
            let knows = |line: &str| info.lines().any(|other| other == line);
            knows("cluster_state:ok") && knows(&format!("cluster_known_nodes:{MASTERS}"))
        };
        while !self.nodes.iter().all(ready) {
            assert!(begun.elapsed() < PATIENCE, "the cluster does not become ready");
            std::thread::sleep(RETRY);
        }
    }
}

/// Whether the node serves the slot.
fn owns(node: &Node, slot: &str) -> bool {
    let nodes: String = node.ask(&["CLUSTER", "NODES"]).unwrap_or_default();
    let wanted: u16 = slot.parse().unwrap_or(SLOTS);
    let mine = nodes.lines().find(|line| line.contains("myself")).unwrap_or_default();
    mine.split_whitespace().skip(8).filter(|range| !range.starts_with('[')).any(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        matches!((from.parse::<u16>(), to.parse::<u16>()), (Ok(from), Ok(to)) if (from..=to).contains(&wanted))
    })
}

/// The folder of the servers that were started together, and who clears it away.
#[derive(Debug)]
struct Camp {
    dir: PathBuf,
    undertaker: Child,
}

impl Camp {
    fn pitch() -> Self {
        let dir = std::env::temp_dir().join(format!("millpond-redis-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir(&dir).expect("a temporary directory");
        let undertaker = Command::new("sh")
            .args(["-c", UNDERTAKER])
            .env("DIR", &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Self { dir, undertaker }
    }
}

impl Drop for Camp {
    fn drop(&mut self) {
        // The undertaker waits for the end of its input.
        drop(self.undertaker.stdin.take());
        let _ = self.undertaker.wait();
    }
}

/// One server.
#[derive(Debug)]
struct Node {
    dir: PathBuf,
    keeps: Keeps,
    clustered: bool,
    port: u16,
    /// Where servers of a cluster talk to each other.
    bus: u16,
    server: Mutex<Option<Child>>,
}

impl Node {
    fn new(dir: &Path, keeps: Keeps, clustered: bool) -> Self {
        fs::create_dir_all(dir.join("data")).expect("a folder");
        let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        // Both are held until both are known.
        let (port, bus) = (free(), free());
        let number = |held: &TcpListener| held.local_addr().expect("its port").port();
        let (port, bus) = (number(&port), number(&bus));
        Self { dir: dir.to_owned(), keeps, clustered, port, bus, server: Mutex::new(None) }
    }

    fn running(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}/", self.port)
    }

    fn up(&self) {
        let log = || fs::File::options().create(true).append(true).open(self.dir.join("log")).expect("a log file");
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let sync = if self.keeps == Keeps::Everything { "always" } else { "everysec" };
        let mut command = Command::new(program());
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--requirepass", PASSWORD])
            .args(["--save", "", "--appendonly", yes(self.keeps != Keeps::Nothing), "--appendfsync", sync])
            .args(["--cluster-enabled", yes(self.clustered), "--cluster-port", &self.bus.to_string()])
            .args(["--cluster-config-file", "../nodes.conf", "--cluster-node-timeout", "2000"])
            .arg("--dir")
            .arg(self.dir.join("data"))
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log());
        let mut child = command.spawn().expect("redis-server starts");
        fs::write(self.dir.join("pid"), child.id().to_string()).expect("its number can be written");
        let begun = Instant::now();
        while self.ask::<String>(&["PING"]).is_err() {
            let ended = child.try_wait().expect("its state");
            let late = begun.elapsed() > PATIENCE;
            let said = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(ended.is_none() && !late, "redis-server does not answer ({ended:?}):\n{}", said());
            std::thread::sleep(RETRY);
        }
        *self.running() = Some(child);
    }

    fn kill(&self) {
        if let Some(mut child) = self.running().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn connect(&self) -> RedisResult<redis::Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(PATIENCE)
    }

    fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connect()?)
    }

    fn tell(&self, words: &[&str]) {
        self.ask::<()>(words).unwrap_or_else(|e| panic!("{words:?}: {e}"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server's program: the one on the path, or where `scripts/redis.sh` puts it.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/redis");
    let found = std::env::split_paths(&path).chain([here]).map(|dir| dir.join("redis-server")).find(|at| at.is_file());
    found.unwrap_or_else(|| panic!("redis-server is not installed: run scripts/redis.sh"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("its files") {
        let entry = entry.expect("a file");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its kind").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
