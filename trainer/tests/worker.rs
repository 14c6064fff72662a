//! The child process: what it leaves, and what is left of it when it dies.

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{job, logistic, mixed_inputs, mixed_rows, mlp, normal_rows};
use domain::{Coded as _, ErrorCode, Frame, definition::Prep};
use trainer::{Progress, TrainJob, Trained, Trainer, TrainerConfig, TrainerError};

const PATIENCE: Duration = Duration::from_secs(60);

fn parquet(rows: &Frame) -> Bytes {
    storage::to_parquet(rows).unwrap()
}

fn trainer(exe: impl Into<PathBuf>, work_dir: &Path) -> Trainer {
    Trainer::new(TrainerConfig {
        exe: exe.into(),
        work_dir: work_dir.to_owned(),
        max_parallel: 1,
        threads: 0,
        onnx_library: None,
    })
}

/// A stand-in for the binary that does what the script says; `$3` is the job's folder.
fn script(dir: &Path, lines: &str) -> PathBuf {
    let path = dir.join("stand-in");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn run(trainer: &Trainer, job: TrainJob) -> Result<Trained, TrainerError> {
    let (rows, _) = normal_rows(400, 1, |a, _| a);
    trainer.train(job, parquet(&rows), parquet(&rows), |_| {}).await
}

fn small() -> TrainJob {
    job(vec![common::input("x1", Prep::Numeric)], logistic())
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::task::yield_now().await;
    }
}

fn alive(pid: &str) -> bool {
    // A zombie is dead: it only waits to be counted.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), Some('Z' | 'X') | None)
    })
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[tokio::test]
async fn a_child_trains_the_same_model_as_this_process_does() {
    let dir = tempfile::tempdir().unwrap();
    let (train, holdout) = (mixed_rows(800, 5), mixed_rows(300, 6));
    let mut job = job(mixed_inputs(), mlp());
    job.estimator.epochs = 3;
    let here = common::fit(&job, &train, &holdout).unwrap();

    let trainer = trainer(env!("CARGO_BIN_EXE_train-worker"), dir.path());
    let told = Mutex::new(Vec::new());
    let there = trainer
        .train(job.clone(), parquet(&train), parquet(&holdout), |step| told.lock().unwrap().push(step))
        .await
        .unwrap();
    assert_eq!(there.files["model.onnx"], here.files["model.onnx"]);
    assert_eq!(there.files["reference.json"], here.files["reference.json"]);
    assert_eq!(there.holdout_scores, here.holdout_scores);
    assert_eq!((&there.signature, &there.importance), (&here.signature, &here.importance));
    assert_eq!(there.params, here.params);
    assert_eq!(there.metrics["holdout_auc"], here.metrics["holdout_auc"]);

    let told = told.into_inner().unwrap();
    assert!(matches!(told[0], Progress::Started { rows: 720, valid_rows: 80, holdout_rows: 300 }), "{told:?}");
    let epochs = told.iter().filter(|step| matches!(step, Progress::Epoch { .. })).count();
    assert_eq!(epochs, there.epochs.len());
    assert!(matches!(told.last(), Some(Progress::Finished { .. })));
    assert!(is_empty(dir.path()), "the job's folder is gone");
}

#[tokio::test]
async fn a_job_can_be_awaited_in_a_task_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let trainer = trainer(env!("CARGO_BIN_EXE_train-worker"), dir.path());
    let trained = tokio::spawn(async move { run(&trainer, small()).await }).await.unwrap().unwrap();
    assert_eq!(trained.holdout_scores.len(), 400);
}

#[tokio::test]
async fn what_the_child_refuses_keeps_its_code_and_its_hint() {
    let dir = tempfile::tempdir().unwrap();
    let trainer = trainer(env!("CARGO_BIN_EXE_train-worker"), dir.path());
    let mut job = small();
    job.inputs[0].column = "x1_".into();
    let error = run(&trainer, job).await.unwrap_err();
    assert!(matches!(error, TrainerError::Failed { code: ErrorCode::InvalidArgument, .. }), "{error:?}");
    assert_eq!(error.to_string(), "input column `x1_` is not in the dataset");
    assert_eq!(error.hint(), "did you mean `x1`?");
    assert!(is_empty(dir.path()));
}

#[tokio::test]
async fn a_killed_child_leaves_an_error_and_no_half_result() {
    let dir = tempfile::tempdir().unwrap();
    let trainer = trainer(env!("CARGO_BIN_EXE_train-worker"), dir.path());
    let mut job = small();
    (job.estimator.epochs, job.estimator.patience) = (10_000, 10_000);
    let work = dir.path().join(job.id.to_string());
    let killed = AtomicUsize::new(0);
    let (rows, _) = normal_rows(400, 1, |a, _| a);
    let result = trainer
        .train(job, parquet(&rows), parquet(&rows), |step| {
            // It trains: kill it in the middle.
            if matches!(step, Progress::Epoch { .. }) && killed.fetch_add(1, Ordering::Relaxed) == 0 {
                kill(child_in(&work).expect("a child that just spoke"));
            }
        })
        .await;
    let error = result.unwrap_err();
    assert!(matches!(&error, TrainerError::Died { status, .. } if status.contains("signal: 9")), "{error:?}");
    assert_eq!(error.code(), ErrorCode::Internal);
    assert!(is_empty(dir.path()));
}

/// The process that was given this folder.
fn child_in(dir: &Path) -> Option<String> {
    let wanted = dir.to_str().unwrap();
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok()).find(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|part| part == wanted.as_bytes()))
    })
}

fn kill(pid: String) {
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
}

#[tokio::test]
async fn an_exit_code_of_zero_is_no_result_and_its_last_words_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = dir.path().join("jobs");
    let exe = script(dir.path(), "echo 'not json'; echo 'out of luck' >&2; exit 0");
    let error = run(&trainer(exe, &jobs), small()).await.unwrap_err();
    assert!(error.to_string().contains("left no result; its last words: out of luck"), "{error}");
}

#[tokio::test]
async fn a_result_that_does_not_match_its_digests_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = dir.path().join("jobs");
    let real = env!("CARGO_BIN_EXE_train-worker");
    let exe = script(dir.path(), &format!("'{real}' \"$@\"; printf x >> \"$3/files/model.onnx\""));
    let error = run(&trainer(&exe, &jobs), small()).await.unwrap_err();
    assert!(matches!(&error, TrainerError::Record { .. }), "{error:?}");
    assert_eq!(error.code(), ErrorCode::DataLoss);

    script(dir.path(), &format!("'{real}' \"$@\"; rm \"$3/holdout_scores.f32\""));
    assert!(run(&trainer(&exe, &jobs), small()).await.is_err());
    assert!(is_empty(&jobs));
}

#[tokio::test]
async fn a_record_of_another_job_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = dir.path().join("jobs");
    let other = domain::JobId::mint();
    let record = format!(r#"{{"job":"{other}","outcome":"failed","code":"internal","message":"not yours","hint":""}}"#);
    let exe = script(dir.path(), &format!("echo '{record}' > \"$3/result.json\""));
    let error = run(&trainer(exe, &jobs), small()).await.unwrap_err();
    assert!(error.to_string().contains("belongs to job"), "{error}");
}

#[tokio::test]
async fn a_binary_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = run(&trainer(dir.path().join("nothing"), &dir.path().join("jobs")), small()).await.unwrap_err();
    assert!(error.to_string().starts_with("could not start the training process"), "{error}");
}

#[tokio::test]
async fn dropping_the_future_kills_the_child() {
    let dir = tempfile::tempdir().unwrap();
    let (jobs, pid) = (dir.path().join("jobs"), dir.path().join("pid"));
    let exe = script(dir.path(), &format!("echo $$ > '{0}.tmp'; mv '{0}.tmp' '{0}'; exec sleep 600", pid.display()));
    let trainer = trainer(exe, &jobs);
    let started = until("the child", || fs::read_to_string(&pid).ok());
    let pid = tokio::select! {
        result = run(&trainer, small()) => panic!("{result:?}"),
        pid = started => pid.trim().to_owned(),
    };
    until("the child's death", || (!alive(&pid)).then_some(())).await;
    until("the folder to go", || is_empty(&jobs).then_some(())).await;
}

#[test]
fn a_child_does_not_outlive_the_thread_that_started_it() {
    let dir = tempfile::tempdir().unwrap();
    let (jobs, file) = (dir.path().join("jobs"), dir.path().join("pid"));
    let exe = script(dir.path(), &format!("echo $$ > '{0}.tmp'; mv '{0}.tmp' '{0}'; exec sleep 600", file.display()));
    let trainer = trainer(exe, &jobs);
    // The thread ends without dropping anything, as a killed process does.
    let parent = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut training = Box::pin(async move { run(&trainer, small()).await });
        let pid = runtime.block_on(async {
            tokio::select! {
                result = &mut training => panic!("{result:?}"),
                pid = until("the child", || fs::read_to_string(&file).ok()) => pid.trim().to_owned(),
            }
        });
        assert!(alive(&pid));
        std::mem::forget((training, runtime));
        pid
    });
    let pid = parent.join().unwrap();
    let start = Instant::now();
    while alive(&pid) {
        assert!(start.elapsed() < PATIENCE, "the child lives on");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn only_so_many_children_run_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (jobs, log) = (dir.path().join("jobs"), dir.path().join("log"));
    // The pause in the child only widens the window in which two at once would show.
    let exe = script(dir.path(), &format!("echo in >> '{0}'; sleep 0.05; echo out >> '{0}'", log.display()));
    let trainer = Arc::new(trainer(exe, &jobs));
    let (a, b, c) = tokio::join!(run(&trainer, small()), run(&trainer, small()), run(&trainer, small()));
    assert!(a.is_err() && b.is_err() && c.is_err());
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), ["in", "out", "in", "out", "in", "out"]);
}

#[tokio::test]
async fn what_a_killed_parent_left_is_cleared_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join(domain::JobId::mint().to_string());
    let other = dir.path().join("photos");
    for folder in [&stale, &other] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), b"x").unwrap();
    }
    trainer("unused", dir.path());
    assert!(!stale.exists() && other.exists());
}
