//! `cargo xtask setup [bench] | demo | test | test-extra | bench`: what the Makefile calls.

mod demo;
mod setup;
mod test;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["setup"] => setup::run(),
        ["setup", "bench"] => setup::bench(),
        ["demo"] => demo::run(false),
        ["demo", "--exit"] => demo::run(true),
        ["test"] => test::run(),
        ["test-extra"] => test::extra(),
        ["bench"] => bench(),
        _ => Err(anyhow::anyhow!("usage: cargo xtask setup [bench] | demo [--exit] | test | test-extra | bench")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root: the folder above this package.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end; anything but success is an error that names it.
fn ensure(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("could not start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

fn bench() -> anyhow::Result<()> {
    setup::run()?;
    setup::bench()?;
    ensure(cargo().args(["bench", "--bench", "*"]))?;
    // In its own crate, and with the features that the program has.
    ensure(cargo().args(["bench", "-p", "millpond", "-p", "feature-store", "--bench", "bulk"]))
}
