//! The machine that is measured on, and what Linux says of processes.

#![allow(dead_code, reason = "each bench uses its part")]

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread};

/// The machine that is measured on.
pub struct Machine {
    pub ticks_per_second: f64,
    pub page_bytes: f64,
}

impl Machine {
    pub fn this() -> Self {
        let number = |name: &str| said("getconf", &[name]).parse().expect("getconf prints a number");
        Self { ticks_per_second: number("CLK_TCK"), page_bytes: number("PAGESIZE") }
    }

    /// One sentence for people.
    pub fn describe(&self) -> String {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or("")
            .trim_start_matches([':', '\t', ' ']);
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let profile = if cfg!(debug_assertions) { "dev profile" } else { "optimised" };
        format!(
            "{}, {cores} cores of {model}, Linux {}, {profile}.",
            said("date", &["-u", "+%Y-%m-%d"]),
            said("uname", &["-r"])
        )
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program is there");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The living processes of a tree, with the ticks each and its ended children have taken.
pub fn tree(top: u32) -> Vec<(u32, f64)> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut ticks: BTreeMap<u32, f64> = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("Linux").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may have ended by now.
        let Some((parent, taken)) = stat(&entry.path()) else { continue };
        children.entry(parent).or_default().push(pid);
        ticks.insert(pid, taken);
    }
    let mut found = Vec::new();
    let mut open = vec![top];
    while let Some(pid) = open.pop() {
        if let Some(taken) = ticks.get(&pid) {
            found.push((pid, *taken));
        }
        open.extend(children.remove(&pid).unwrap_or_default());
    }
    found
}

/// Parent, and ticks in user and system mode with those of children that were waited for.
fn stat(process: &Path) -> Option<(u32, f64)> {
    let text = fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok()).sum::<Option<f64>>()?;
    Some((fields.get(1)?.parse().ok()?, ticks))
}

pub fn resident_pages(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0)
}

pub fn proportional_kib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
}

impl Machine {
    /// User and system seconds of a process and of all that it started.
    pub fn cpu_seconds(&self, top: u32) -> f64 {
        tree(top).iter().map(|(_, ticks)| ticks).sum::<f64>() / self.ticks_per_second
    }
}
