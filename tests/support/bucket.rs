//! Servers whose files lie in a bucket and whose metadata lies in Postgres.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use storage::{
    S3Options,
    testing::{Postgres, S3},
};
use tokio::runtime::Runtime;

use super::{MILLPOND, Server};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// A database and a bucket of their own.
pub struct Shared {
    /// Address of the database.
    pub database: String,
    pub bucket: S3Options,
    store: &'static S3,
    flags: Vec<String>,
}

impl Shared {
    /// In the store that all tests of a program share.
    pub fn new() -> Self {
        Self::within(S3::shared())
    }

    /// In a store that a test may stop.
    pub fn within(store: &'static S3) -> Self {
        let database = RUNTIME.block_on(Postgres::shared().database());
        let bucket = store.bucket();
        let keys = bucket.keys.as_ref().expect("it has keys");
        let settings = [
            format!("metadata.url={database}"),
            format!("objects.url=s3://{}/{}", bucket.bucket, bucket.prefix),
            format!("objects.endpoint={}", store.endpoint()),
            format!("objects.access_key={}", keys.access_key),
            format!("objects.secret_key={}", keys.secret_key),
        ];
        let flags = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();
        Self { database, bucket, store, flags }
    }

    /// A server on both, with a data directory of its own.
    pub fn start(&self, data: &Path) -> Server {
        self.start_with(data, &[])
    }

    pub fn start_with(&self, data: &Path, more: &[&str]) -> Server {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Server::start_with(data, &flags)
    }

    /// What a server says that does not start.
    pub fn refused(&self, data: &Path, more: &[&str]) -> String {
        let output = Command::new(MILLPOND)
            .args(["up", "--listen", "127.0.0.1:0", "--set", "log.filter=error", "--data-dir"])
            .arg(data)
            .args(&self.flags)
            .args(more)
            // Nothing of the caller's own world, in which there may be keys.
            .env("HOME", data)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts");
        assert!(!output.status.success());
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// The folder of the bucket's objects.
    pub fn folder(&self) -> PathBuf {
        self.store.folder(&self.bucket.bucket).join(&self.bucket.prefix)
    }

    /// The object that has the blob of these bytes.
    pub fn object(&self, bytes: &[u8]) -> PathBuf {
        let name = domain::Digest::of(bytes).to_string();
        self.folder().join("sha256").join(&name[..2]).join(&name[2..])
    }
}

/// A store of its own for a test that stops it; ends with the program.
pub fn store() -> &'static S3 {
    Box::leak(Box::new(S3::start()))
}
