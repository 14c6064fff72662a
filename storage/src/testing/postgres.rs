//! A Postgres of the tests' own: made in a temporary directory, gone when the tests are.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use sqlx::{Connection as _, PgConnection};

/// Where Debian puts the programs, by version.
const INSTALLED: &str = "/usr/lib/postgresql";
const PASSWORD: &str = "sesam-oeffne-dich";

/// Waits until whoever started the server is gone, however it went, and clears up.
const UNDERTAKER: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
$AS "$BIN/pg_ctl" -D "$DIR/data" -m immediate -w stop > /dev/null 2>&1
rm -rf "$DIR"
"#;

/// A Postgres server with its data in a temporary directory, on a Unix socket and a free port of the loopback. Text
/// sorts by a locale in it, as in most databases out there. Dropped or killed with its process, it stops and leaves
/// nothing behind.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    undertaker: Child,
    databases: AtomicU64,
}

impl Postgres {
    /// The one that all tests of a process share; each takes a database of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// # Panics
    /// Where Postgres is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let bin = installed().unwrap_or_else(|| panic!("Postgres is not installed: run scripts/postgres.sh"));
        let dir = std::env::temp_dir().join(format!("millpond-pg-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir(&dir).expect("a temporary directory");
        if is_root() {
            succeed(Command::new("chown").arg("postgres:").arg(&dir));
        }
        let undertaker = Command::new("sh")
            .args(["-c", UNDERTAKER])
            .envs([("AS", as_user().join(" ")), ("BIN", bin.display().to_string()), ("DIR", dir.display().to_string())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let server = Self { bin, dir, port, undertaker, databases: AtomicU64::new(0) };
        let password = server.dir.join("password");
        fs::write(&password, PASSWORD).expect("a password file");
        succeed(
            server
                .program("initdb")
                .args(["--username=millpond", "--auth=scram-sha-256", "--encoding=UTF8"])
                .args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"])
                .arg(format!("--pwfile={}", password.display())),
        );
        let settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = on\nmax_connections = 200\n",
            server.dir.display()
        );
        let mut file =
            fs::File::options().append(true).open(server.data().join("postgresql.conf")).expect("its settings");
        file.write_all(settings.as_bytes()).expect("its settings");
        server.up();
        server
    }

    /// Starts the server again after [`Postgres::down`].
    ///
    /// # Panics
    /// Where it does not start.
    pub fn up(&self) {
        succeed(self.program("pg_ctl").args(["-w", "-l"]).arg(self.dir.join("log")).arg("start"));
    }

    /// Ends the server as a crash would.
    ///
    /// # Panics
    /// Where it does not stop.
    pub fn down(&self) {
        succeed(self.program("pg_ctl").args(["-w", "-m", "immediate", "stop"]));
    }

    /// The address of a new, empty database.
    ///
    /// # Panics
    /// Where none can be made.
    pub async fn database(&self) -> String {
        let name = format!("pond_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let mut conn = PgConnection::connect(&self.url("postgres")).await.expect("a connection");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&mut conn).await.expect("a database");
        conn.close().await.expect("closed");
        self.url(&name)
    }

    /// What stands in [`Postgres::database`]'s addresses and must stand in no log.
    #[must_use]
    pub const fn password() -> &'static str {
        PASSWORD
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://millpond:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn program(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = match as_user().split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("-D").arg(self.data()).current_dir(&self.dir);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The undertaker waits for the end of its input.
        drop(self.undertaker.stdin.take());
        let _ = self.undertaker.wait();
    }
}

/// Postgres refuses to run as root.
fn as_user() -> &'static [&'static str] {
    if is_root() { &["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] } else { &[] }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// The programs of the newest version installed.
fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir(INSTALLED).ok()?.flatten().map(|entry| entry.path().join("bin"));
    versions.filter(|bin| bin.join("initdb").is_file()).max_by_key(|bin| version(bin))
}

fn version(bin: &Path) -> u32 {
    let name = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).unwrap_or_default()
}

fn succeed(command: &mut Command) {
    // To files and not to pipes, which the server would keep open.
    let log = log_path();
    let out = fs::File::create(&log).expect("a log file");
    let both = out.try_clone().expect("a log file");
    let done = command.stdin(Stdio::null()).stdout(out).stderr(both).status();
    let said = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    assert!(done.as_ref().is_ok_and(std::process::ExitStatus::success), "{command:?}: {done:?}\n{said}");
}

fn log_path() -> PathBuf {
    std::env::temp_dir().join(format!("millpond-pg-{}.log", uuid::Uuid::now_v7().simple()))
}
