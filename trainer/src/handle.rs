use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use bytes::Bytes;
use domain::JobId;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::Semaphore,
};

use crate::{
    Progress, TrainJob, Trained, TrainerError,
    record::{self, HOLDOUT, JOB, Order, TRAIN},
};

/// Lines of the child's standard error that are kept for the error, and bytes of one line.
const STDERR_LINES: usize = 20;
const LINE_BYTES: usize = 2_000;

/// How jobs are run.
#[derive(Debug, Clone)]
pub struct TrainerConfig {
    /// Binary that understands `worker train <dir>`.
    pub exe: PathBuf,
    /// Folder of running jobs, ours alone: jobs found in it at the start are removed.
    pub work_dir: PathBuf,
    /// Jobs at once; further ones wait. At least 1.
    pub max_parallel: usize,
    /// Threads of a job that does not say; 0 is one, which is fastest for the small matrices of tabular models.
    pub threads: usize,
    /// ONNX Runtime's library; absent: the child looks for it, as [`backends::init`] says.
    pub onnx_library: Option<PathBuf>,
}

/// Runs jobs in child processes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trainer {
    config: Arc<TrainerConfig>,
    seats: Arc<Semaphore>,
}

impl Trainer {
    /// Clears what jobs of an earlier process left in the work folder.
    #[must_use]
    pub fn new(config: TrainerConfig) -> Self {
        if let Err(error) = clear(&config.work_dir) {
            tracing::warn!(dir = %config.work_dir.display(), %error, "could not clear the trainer's work folder");
        }
        let seats = Arc::new(Semaphore::new(config.max_parallel.max(1)));
        Self { config: Arc::new(config), seats }
    }

    /// Fits a model in a child process; waits for a seat first. `train` and `holdout` are Parquet files of frames.
    ///
    /// The child dies with the future that is dropped, and with the thread that awaits it: await it on a thread that
    /// lives as long as the process does, such as one of the runtime's workers. Its folder is gone when this returns.
    ///
    /// # Errors
    /// What the child reports, and [`TrainerError::Died`] when it leaves no record, whatever its exit code.
    pub async fn train(
        &self,
        job: TrainJob,
        train: Bytes,
        holdout: Bytes,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<Trained, TrainerError> {
        let _seat = self.seats.acquire().await.expect("the semaphore is never closed");
        let threads = if job.threads > 0 { job.threads } else { self.config.threads.max(1) };
        let id = job.id;
        let folder = Folder(self.config.work_dir.join(id.to_string()));
        let order = Order { job: TrainJob { threads, ..job }, onnx_library: self.config.onnx_library.clone() };
        let dir = folder.0.clone();
        blocking(move || prepare(&dir, &order, &train, &holdout)).await?;

        let mut child = self.spawn(&folder.0, threads)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (_, stderr, status) = tokio::join!(
            lines(out, |line| match serde_json::from_str(&line) {
                Ok(step) => progress(step),
                Err(_) => tracing::debug!(job = %id, line, "the training process said"),
            }),
            tail(err),
            child.wait(),
        );
        let status = status.map_err(TrainerError::io("wait for the training process"))?;
        let dir = folder.0.clone();
        let collected = blocking(move || record::collect(&dir, id)).await;
        folder.remove().await;
        collected?.ok_or_else(|| TrainerError::Died { status: status.to_string(), stderr })
    }

    fn spawn(&self, dir: &Path, threads: usize) -> Result<Child, TrainerError> {
        let mut command = Command::new(&self.config.exe);
        command
            .args(["worker", "train"])
            .arg(dir)
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("ORT_DISABLE_TELEMETRY", "1")
            // May hold the database's password, which is no business of a training's.
            .env_remove("MILLPOND_METADATA_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        die_with_parent(&mut command);
        command.spawn().map_err(TrainerError::io("start the training process"))
    }
}

/// Asks the kernel to kill the child when the thread that started it ends, so that no training outlives a killed server.
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let dying = move || {
        #[expect(unsafe_code, reason = "two system calls without pointers")]
        // SAFETY: both only read their arguments.
        let orphan = unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            libc::getppid() as u32 != parent
        };
        // The parent may have died before the request was made; nobody would send the signal then.
        if orphan { Err(std::io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    };
    #[expect(unsafe_code, reason = "the one way to run something between fork and exec")]
    // SAFETY: the closure makes only async-signal-safe calls and allocates nothing.
    unsafe {
        command.pre_exec(dying);
    }
}

/// A job's folder; removed when dropped, whatever ends the job.
struct Folder(PathBuf);

impl Folder {
    async fn remove(self) {
        // The drop does it, on a thread that may block.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.0.display(), %error, "could not remove a job's folder");
        }
    }
}

fn prepare(dir: &Path, order: &Order, train: &[u8], holdout: &[u8]) -> Result<(), TrainerError> {
    let doing = "make the job's folder";
    if dir.exists() {
        // A second attempt under the same id starts clean: no old record may speak for it.
        std::fs::remove_dir_all(dir).map_err(TrainerError::io(doing))?;
    }
    std::fs::create_dir_all(dir).map_err(TrainerError::io(doing))?;
    record::write(&dir.join(TRAIN), train)?;
    record::write(&dir.join(HOLDOUT), holdout)?;
    let order = serde_json::to_vec_pretty(order)
        .map_err(|error| TrainerError::Record { what: "order", reason: error.to_string() })?;
    record::write(&dir.join(JOB), &order)
}

fn clear(work_dir: &Path) -> std::io::Result<()> {
    if !work_dir.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(work_dir)? {
        let entry = entry?;
        // Only what is named like a job is ours, should the folder be shared by mistake.
        let job = entry.file_name().to_str().is_some_and(|name| name.parse::<JobId>().is_ok());
        if job && entry.path().is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TrainerError> + Send + 'static,
) -> Result<T, TrainerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(TrainerError::Io { doing: "touch the job's folder", source: std::io::Error::other(error) }),
    }
}

async fn lines(from: Option<impl AsyncRead + Unpin>, mut each: impl FnMut(String)) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => each(String::from_utf8_lossy(&line).trim_end().to_owned()),
        }
    }
}

/// The last lines, joined.
async fn tail(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept: VecDeque<String> = VecDeque::new();
    lines(from, |mut line| {
        if line.len() > LINE_BYTES {
            line = line.chars().take(LINE_BYTES).collect();
        }
        if kept.len() == STDERR_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    })
    .await;
    Vec::from(kept).join("\n")
}
