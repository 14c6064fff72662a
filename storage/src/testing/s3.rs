//! An S3 server of the tests' own: `s3s-fs`, with its objects in a temporary directory, gone when the tests are.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{S3Keys, S3Options};

const ACCESS_KEY: &str = "MILLPONDTESTS";
const SECRET_KEY: &str = "muehle-am-rauschenden-bach";

/// Waits until whoever started the server is gone, however it went, and clears up.
const UNDERTAKER: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
kill -9 "$(cat "$DIR/pid")" > /dev/null 2>&1
rm -rf "$DIR"
"#;

/// A server that speaks S3 and checks signatures, on a free port of the loopback. Buckets are folders. Dropped or killed
/// with its process, it stops and leaves nothing behind.
#[derive(Debug)]
pub struct S3 {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    server: Mutex<Option<Child>>,
    undertaker: Child,
    buckets: AtomicU64,
}

impl S3 {
    /// The one that all tests of a process share; each takes a bucket of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// # Panics
    /// Where the server is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/s3s/bin/s3s-fs");
        assert!(program.is_file(), "{} is not there: run `cargo xtask setup`", program.display());
        let dir = std::env::temp_dir().join(format!("millpond-s3-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir_all(dir.join("objects")).expect("a temporary directory");
        let undertaker = Command::new("sh")
            .args(["-c", UNDERTAKER])
            .env("DIR", &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let server = Self { program, dir, port, server: Mutex::new(None), undertaker, buckets: AtomicU64::new(0) };
        server.up();
        server
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the server again after [`S3::down`].
    ///
    /// # Panics
    /// Where it does not start.
    pub fn up(&self) {
        let log = || fs::File::options().create(true).append(true).open(self.dir.join("log")).expect("a log file");
        let mut child = Command::new(&self.program)
            .args(["--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(self.dir.join("objects"))
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .spawn()
            .expect("s3s-fs starts");
        fs::write(self.dir.join("pid"), child.id().to_string()).expect("its number can be written");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = child.try_wait().expect("its state");
            let late = begun.elapsed() > Duration::from_secs(30);
            let said = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(ended.is_none() && !late, "s3s-fs does not answer: {ended:?}\n{}", said());
            std::thread::sleep(Duration::from_millis(2));
        }
        *self.running() = Some(child);
    }

    /// Ends the server as a crash would.
    ///
    /// # Panics
    /// Where it cannot be stopped.
    pub fn down(&self) {
        if let Some(mut child) = self.running().take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Stops the server without ending it: it takes connections, and answers nothing until [`S3::thaw`].
    ///
    /// # Panics
    /// Where it does not run.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets the server go on.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.running().as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill exists").success());
    }

    /// A new, empty bucket, and how it is reached.
    ///
    /// # Panics
    /// Where none can be made.
    pub fn bucket(&self) -> S3Options {
        let bucket = format!("pond-{}", self.buckets.fetch_add(1, Ordering::SeqCst));
        fs::create_dir(self.folder(&bucket)).expect("a bucket");
        S3Options {
            bucket,
            prefix: "mill/objects".into(),
            endpoint: Some(self.endpoint()),
            region: None,
            path_style: true,
            keys: Some(S3Keys { access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() }),
            direct: true,
        }
    }

    /// Where the server is reached.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder that has a bucket's objects, each as a file whose path is its key.
    #[must_use]
    pub fn folder(&self, bucket: &str) -> PathBuf {
        self.dir.join("objects").join(bucket)
    }

    /// What must stand in no log and no error.
    #[must_use]
    pub const fn secrets() -> [&'static str; 2] {
        [ACCESS_KEY, SECRET_KEY]
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.down();
        // The undertaker waits for the end of its input.
        drop(self.undertaker.stdin.take());
        let _ = self.undertaker.wait();
    }
}
