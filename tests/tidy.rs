//! What keeps the house in order: layers, words, paths and generated pages.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use support::{
    millpond, root,
    sensors::{items, text},
};

/// Which crate of the workspace may use which, from the bottom up. A crate may use only what stands above it here.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("stats", &[]),
    ("backends", &["domain"]),
    ("storage", &["domain"]),
    ("lake", &["domain", "storage"]),
    ("spark", &["domain"]),
    ("runtime", &["domain"]),
    ("proto", &["domain"]),
    // Knows no room: what can be asked is given to it.
    ("sql", &["domain"]),
    ("access", &["domain", "storage", "runtime"]),
    ("registry", &["domain", "storage", "runtime"]),
    ("feature-store", &["domain", "stats", "storage", "lake", "spark", "runtime"]),
    ("trainer", &["domain", "stats", "backends", "storage", "runtime"]),
    // Sees neither SQL nor files.
    ("serving", &["domain", "backends", "runtime"]),
    ("evaluator", &["domain", "stats", "storage", "runtime"]),
    ("pipelines", &["domain", "storage", "runtime", "registry", "feature-store", "trainer", "serving", "evaluator"]),
    (
        "millpond",
        &[
            "domain",
            "stats",
            "backends",
            "storage",
            "runtime",
            "proto",
            "access",
            "registry",
            "feature-store",
            "trainer",
            "serving",
            "evaluator",
            "pipelines",
            "sql",
        ],
    ),
    ("xtask", &[]),
];

/// The rooms: none of them may know another.
const ROOMS: [&str; 5] = ["registry", "feature-store", "trainer", "serving", "evaluator"];

/// The crates of the workspace: name -> (dependencies, dependencies of tests only).
fn crates() -> BTreeMap<String, [BTreeSet<String>; 2]> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = items(&metadata["packages"]);
    let members: BTreeSet<&str> = packages.iter().map(|package| text(&package["name"])).collect();
    let uses = |package: &Value, tests: bool| -> BTreeSet<String> {
        let of_kind = items(&package["dependencies"]).iter().filter(|d| (d["kind"] == "dev") == tests);
        of_kind.map(|d| text(&d["name"])).filter(|name| members.contains(name)).map(str::to_owned).collect()
    };
    packages.iter().map(|p| (text(&p["name"]).to_owned(), [uses(p, false), uses(p, true)])).collect()
}

#[test]
fn every_crate_uses_only_what_the_table_of_layers_allows() {
    let crates = crates();
    let names: BTreeSet<&str> = crates.keys().map(String::as_str).collect();
    assert_eq!(names, LAYERS.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), "every crate has its layer");
    for (position, (name, allowed)) in LAYERS.iter().enumerate() {
        let [used, in_tests] = &crates[*name];
        let allowed: BTreeSet<String> = allowed.iter().map(|n| (*n).to_owned()).collect();
        assert_eq!(*used, allowed, "what {name} uses, beside the table");
        let below: BTreeSet<&str> = LAYERS[..position].iter().map(|(name, _)| *name).collect();
        for other in used.iter().chain(in_tests) {
            assert!(below.contains(other.as_str()), "{name} uses {other}, which does not lie below it");
            let both_rooms = ROOMS.contains(name) && ROOMS.contains(&other.as_str());
            assert!(!both_rooms, "{name} and {other} are rooms and must not know each other");
        }
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            rust_files(&entry, found);
        } else if entry.extension().is_some_and(|kind| kind == "rs") {
            found.push(entry);
        }
    }
}

/// The lines of a file that are part of the program: no comments, and nothing from the first `#[cfg(test)]` module on.
fn program(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = source.lines().collect();
    let is_tests =
        |pair: &[&str]| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    let end = lines.windows(2).position(is_tests).unwrap_or(lines.len());
    lines
        .into_iter()
        .take(end)
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(n, l)| (n + 1, l))
}

/// Words of the flights example in a line; an arrow in flight is none.
fn words_of_flights(line: &str) -> bool {
    let line = line.to_lowercase().replace("in_flight", "").replace("in flight", "").replace("in-flight", "");
    ["flight", "carrier", "airline", "airport"].iter().any(|word| line.contains(word))
}

#[test]
fn no_crate_knows_about_flights() {
    assert!(words_of_flights("let carrier = 1;") && !words_of_flights("max_in_flight: usize"));
    let mut checked = 0;
    let mut found = Vec::new();
    for (name, _) in LAYERS.iter().filter(|(name, _)| !["millpond", "xtask"].contains(name)) {
        let mut files = Vec::new();
        rust_files(&root().join(name).join("src"), &mut files);
        // Modules that are tests altogether.
        files.retain(|file| !file.iter().any(|part| part == "tests" || part == "tests.rs"));
        checked += files.len();
        for file in files {
            let source = fs::read_to_string(&file).expect("UTF-8");
            let hits = program(&source).filter(|(_, line)| words_of_flights(line));
            found.extend(hits.map(|(line, hit)| format!("{}:{line}: {}", file.display(), hit.trim())));
        }
    }
    assert!(checked > 80, "only {checked} files were looked at");
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn no_tracked_file_names_a_path_of_the_machine_it_was_written_on() {
    let output = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = String::from_utf8(output.stdout).expect("UTF-8");
    // Put together here, or this very file would be found.
    let paths = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    let mut checked = 0;
    let mut found = Vec::new();
    for file in files.split_terminator('\0') {
        // Removed but not committed yet, or not a text.
        let Ok(content) = fs::read_to_string(root().join(file)) else { continue };
        checked += 1;
        for (number, line) in content.lines().enumerate() {
            // Inside a longer path or an address it is a folder like any other.
            let starts = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || ".-_~}/*".contains(c));
            if paths.iter().any(|path| line.match_indices(path.as_str()).any(|(at, _)| starts(at))) {
                found.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(checked > 150, "only {checked} files were looked at");
    assert_eq!(found, Vec::<String>::new());
}

/// Compares a page under `docs/` with what the program says; `BLESS=1` writes it instead.
#[track_caller]
fn page(name: &str, said: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os("BLESS").is_some_and(|bless| bless == "1") {
        fs::write(&path, said).expect("docs is there");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == said, "docs/{name} is not what the program says: run BLESS=1 cargo test --test tidy");
}

#[test]
fn the_page_on_configuration_is_what_the_program_says() {
    let output = millpond(&["config", "reference"]);
    assert!(output.status.success());
    page("configuration.md", &String::from_utf8(output.stdout).expect("UTF-8"));
}

#[test]
fn the_page_on_permissions_is_what_the_program_says() {
    let output = millpond(&["permissions"]);
    assert!(output.status.success());
    page("permissions.md", &String::from_utf8(output.stdout).expect("UTF-8"));
}

#[test]
fn the_page_on_metrics_is_what_the_program_says() {
    page("metrics.md", &runtime::metrics::reference_markdown());
}
