//! `make demo`: build, start a server on fresh data, replay a year of flights through it, leave it up.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};

use crate::{cargo, ensure, root, setup};

/// A server that stops with us.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is fine: there is nothing left to stop.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

pub fn run(exit: bool) -> anyhow::Result<()> {
    let started = Instant::now();
    setup::runtime()?;
    println!("building (the first time takes some minutes) ...");
    ensure(cargo().args(["build", "--package", "millpond"]))?;
    println!("built in {} s", started.elapsed().as_secs());

    let binary = root().join("target/debug/millpond");
    let data = root().join("data/demo");
    if data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| format!("could not clear {}", data.display()))?;
    }
    let mut server = up(&binary, &data)?;
    let replayed = Instant::now();
    ensure(Command::new(&binary).current_dir(root()).args(["demo", "flights"]))?;
    println!("the whole run took {} s", replayed.elapsed().as_secs());
    if exit {
        return Ok(());
    }
    println!("the server stays up on http://127.0.0.1:8080; stop it with Ctrl-C");
    let status = server.0.wait()?;
    if !status.success() {
        bail!("the server ended: {status}");
    }
    Ok(())
}

fn up(binary: &Path, data: &Path) -> anyhow::Result<Server> {
    let mut child = Command::new(binary)
        .current_dir(root())
        .arg("up")
        .arg("--data-dir")
        .arg(data)
        .args(["--set", "log.filter=warn"])
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start millpond")?;
    let lines = child.stdout.take().context("the server has no output")?;
    let server = Server(child);
    for line in BufReader::new(lines).lines() {
        let line = line?;
        println!("{line}");
        if line.contains("is ready") {
            return Ok(server);
        }
    }
    bail!("the server ended before it was ready (is 127.0.0.1:8080 in use?)")
}
