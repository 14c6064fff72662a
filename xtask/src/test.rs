//! `make test`: formatting, lints, every test, and how many ran.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, bail};

use crate::{cargo, ensure, setup};

pub fn run() -> anyhow::Result<()> {
    setup::run()?;
    step("formatting", || ensure(cargo().args(["fmt", "--all", "--check"])))?;
    step("clippy", || {
        ensure(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
    })?;
    let mut total = Total::default();
    step("tests", || total.add(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]))?;
    step("documentation tests", || total.add(&["test", "--workspace", "--doc"]))?;
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 || total.broken {
        bail!("{} tests failed", total.failed);
    }
    Ok(())
}

/// The suite of joins on Apache Spark, which `make test` runs on Sail.
pub fn extra() -> anyhow::Result<()> {
    setup::run()?;
    setup::extra()?;
    let args = ["test", "--workspace", "--test", "it", "--", "spark::"];
    step("joins on Apache Spark", || ensure(cargo().args(args).env("MILLPOND_TEST_SPARK", "apache")))
}

fn step(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("== {name}");
    let started = Instant::now();
    work()?;
    println!("== {name}: {} s", started.elapsed().as_secs());
    Ok(())
}

#[derive(Default)]
struct Total {
    passed: u64,
    failed: u64,
    /// A test program did not build, or died.
    broken: bool,
}

impl Total {
    /// Runs cargo, shows what it prints, and counts the closing lines of every test program.
    fn add(&mut self, args: &[&str]) -> anyhow::Result<()> {
        let mut child = cargo().args(args).stdout(Stdio::piped()).spawn().context("could not start cargo")?;
        let lines = child.stdout.take().context("cargo has no output")?;
        for line in BufReader::new(lines).lines() {
            let line = line?;
            // A thousand lines of "ok" hide the one that is not.
            if !line.ends_with("... ok") && !line.is_empty() {
                println!("{line}");
            }
            if let Some(rest) = line.strip_prefix("test result: ") {
                let count = |what: &str| {
                    let words: Vec<&str> = rest.split_whitespace().collect();
                    words
                        .windows(2)
                        .find(|w| w[1].starts_with(what))
                        .and_then(|w| w[0].parse::<u64>().ok())
                        .unwrap_or(0)
                };
                self.passed += count("passed");
                self.failed += count("failed");
            }
        }
        self.broken |= !child.wait()?.success();
        Ok(())
    }
}
