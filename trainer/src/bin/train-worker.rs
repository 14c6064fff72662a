//! The child process alone: `train-worker worker train <dir>`, as the one binary of the platform runs it.
//! Tests of this crate train through it.

use std::{path::Path, process::ExitCode};

use domain::Coded as _;

fn main() -> ExitCode {
    backends::silence_telemetry();
    let arguments: Vec<_> = std::env::args().collect();
    let [_, worker, train, dir] = &arguments[..] else {
        eprintln!("usage: train-worker worker train <dir>");
        return ExitCode::from(2);
    };
    if worker != "worker" || train != "train" {
        eprintln!("usage: train-worker worker train <dir>");
        return ExitCode::from(2);
    }
    match trainer::worker(Path::new(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error} {}", error.hint());
            ExitCode::FAILURE
        }
    }
}
