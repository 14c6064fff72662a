//! The command line as people and scripts meet it.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Output},
};

use serde_json::{Value, json};
use support::{MILLPOND, Server, eventually, millpond, root, shop};
use tempfile::tempdir;

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// What a command prints when it succeeds.
#[track_caller]
fn printed(args: &[&str]) -> String {
    let output = millpond(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
    out(&output)
}

/// Names of the subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Longer descriptions go on in lines that are indented more.
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Every command and subcommand, with its help.
fn helps(path: &[String]) -> Vec<(String, String)> {
    let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = printed(&args);
    let mut all = Vec::new();
    for name in subcommands(&help) {
        let inner: Vec<String> = path.iter().cloned().chain([name]).collect();
        all.extend(helps(&inner));
    }
    all.push((path.join(" "), help));
    all
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let all = helps(&[]);
    let expected = "up, apply, ingest, features online, train, models list, deploy, predict, evaluate quality, \
                    review answer, pipelines events, demo, config show, openapi, completions";
    for expected in expected.split(", ") {
        assert!(all.iter().any(|(name, _)| name == expected), "`millpond {expected}` is not listed");
    }
    for (name, help) in &all {
        let example = help.split_once("Example:\n").map_or("", |(_, example)| example.trim_start());
        assert!(
            example.starts_with("millpond ") || example.starts_with("MILLPOND_"),
            "`millpond {name} --help`:\n{help}"
        );
    }
}

#[test]
fn a_command_that_does_not_exist_is_refused_with_the_nearest() {
    let output = millpond(&["modles"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("models"), "{}", err(&output));
}

/// The one line that a failing command says.
#[track_caller]
fn complaint(args: &[&str]) -> String {
    let output = millpond(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}{}", out(&output), err(&output));
    assert_eq!((out(&output).as_str(), err(&output).lines().count()), ("", 1), "{args:?}: {}", err(&output));
    err(&output).strip_prefix("error: ").unwrap_or_else(|| panic!("{}", err(&output))).trim_end().to_owned()
}

#[test]
fn without_a_server_every_client_command_says_in_one_line_how_to_start_one() {
    // The discard service's port, where nobody listens.
    let url = "http://127.0.0.1:9";
    let commands: [&[&str]; 9] = [
        &["apply", "examples/sensors"],
        &["features", "list"],
        &["train", "leak"],
        &["models", "list"],
        &["deploy", "leak", "1"],
        &["predict", "leak", "{}"],
        &["evaluate", "alerts"],
        &["review", "list", "leak"],
        &["pipelines", "list"],
    ];
    for command in commands {
        let error = complaint(&[command, &["--url", url]].concat());
        assert!(error.contains(url) && error.contains("millpond up"), "{command:?}: {error}");
    }
}

#[test]
fn a_wrong_file_or_argument_is_named_in_one_line() {
    let dir = tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("a plain path").to_owned()
    };
    let bad = file("bad.yaml", "kind: Entity\nname: pot\nkee: pot\n");
    let error = complaint(&["apply", &bad]);
    assert!(error.contains("bad.yaml") && error.contains("line 3, column 1") && error.contains("`key`"), "{error}");
    let error = complaint(&["apply", "no/such.yaml"]);
    assert!(error.contains("no/such.yaml"), "{error}");
    let error = complaint(&["ingest", "readings", &file("rows.xlsx", "")]);
    assert!(error.contains("rows.xlsx") && error.contains(".csv"), "{error}");
    let error = complaint(&["predict", "leak", "{not json"]);
    assert!(error.contains("{not json") && error.contains("not JSON"), "{error}");
    let error = complaint(&["deploy", "leak", "1=half"]);
    assert!(error.contains("1=half") && error.contains("VERSION=PERCENT"), "{error}");
    let error = complaint(&["config", "show", "--config", "no/such.toml"]);
    assert!(error.contains("no/such.toml"), "{error}");
}

/// What a command prints with `--json`, and that without it it prints something else, for people.
#[track_caller]
fn as_json(server: &Server, args: &[&str]) -> Value {
    let text = printed(&[args, &["--url", &server.url, "--json"]].concat());
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"));
    let people = printed(&[args, &["--url", &server.url]].concat());
    assert!(!people.trim().is_empty() && serde_json::from_str::<Value>(&people).is_err(), "{args:?}: {people}");
    value
}

#[test]
fn a_whole_session_speaks_json_where_it_is_asked_to() {
    let (server, _data) = shop::trained();
    let row = json!({"kettle": "k1", "event_timestamp": shop::CUTOFF}).to_string();
    let instance = json!({"ask_id": "c1", "kettle": "k1", "load": 0.5, "event_timestamp": shop::CUTOFF}).to_string();

    // Writes first, so that what is read is not empty.
    let predicted = as_json(&server, &["predict", "leak", &instance]);
    assert_eq!(predicted["predictions"][0]["version"], 1, "{predicted}");
    server.post("/api/v1/endpoints/leak/settle", &Value::Null).ok();
    let labelled = as_json(&server, &["evaluate", "label", "leak", "c1", "true", "--known-at", "2024-03-01T13:00:00Z"]);
    assert_eq!(labelled["problems"], json!([]), "{labelled}");
    let alias = as_json(&server, &["models", "alias", "leak", "trusted", "1", "--reason", "checked"]);
    assert_eq!(alias["version"], 1, "{alias}");
    let deployed = as_json(&server, &["deploy", "leak", "1=100", "--reason", "again"]);
    assert_eq!(deployed["targets"], json!([{"version": 1, "percent": 100}]), "{deployed}");
    let dir = tempdir().expect("a directory");
    let (yaml, csv) = (dir.path().join("pot.yaml"), dir.path().join("rows.csv"));
    fs::write(&yaml, "kind: Entity\nname: pot\nkey: pot\n").expect("written");
    fs::write(&csv, "kettle,at,heat\nk9,2024-03-01T12:00:00Z,hot\nk9,2024-03-01T12:30:00Z,30\n").expect("written");
    let (yaml, csv) = (yaml.to_str().expect("plain"), csv.to_str().expect("plain"));
    let planned = as_json(&server, &["apply", yaml, "--dry-run"]);
    assert_eq!((&planned["changes"][0]["action"], &planned["dry_run"]), (&json!("created"), &json!(true)));
    let applied = as_json(&server, &["apply", yaml]);
    assert_eq!((&applied["changes"][0]["action"], &applied["dry_run"]), (&json!("created"), &json!(false)));
    let output = millpond(&["ingest", "readings", csv, "--json", "--url", &server.url]);
    assert_eq!(output.status.code(), Some(2), "rows were set aside: {}", err(&output));
    let report: Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!((&report[0]["accepted"], &report[0]["quarantined"]), (&json!(1), &json!(1)), "{report}");

    let online = as_json(&server, &["features", "online", "kettle", &row]);
    assert!(online["rows"][0]["now__heat"].is_f64(), "{online}");
    let historical = as_json(&server, &["features", "historical", "kettle", &row]);
    assert_eq!(historical, online, "the same entity as of the same time");
    let consistency = as_json(&server, &["features", "consistency", "--check"]);
    assert_eq!((&consistency["share"], &consistency["total"]["lost_write"]), (&json!(0.01), &json!(0)));
    let some: [(&[&str], &str, &str); 12] = [
        (&["features", "list"], "/0/kind", "Entity"),
        (&["features", "quarantine", "readings"], "/0/column", "heat"),
        (&["models", "list"], "/0/name", "leak"),
        (&["models", "show", "leak"], "/0/model", "leak"),
        (&["models", "runs", "--experiment", "leak"], "/0/state", "finished"),
        (&["evaluate", "predictions", "leak"], "/0/label_key", "c1"),
        (&["pipelines", "list"], "/0/state", "promoted"),
        (&["pipelines", "events"], "/0/kind", "definition.applied"),
        (&["config", "show"], "/0/key", "server.listen"),
        (&["evaluate", "quality", "leak", "--bucket", "all"], "/0/version", "served"),
        (&["models", "lineage", "leak", "1"], "/edges/0/from", ""),
        (&["review", "list", "leak"], "", ""),
    ];
    for (command, pointer, expected) in some {
        // `config show` asks no server, but takes the same flags.
        let found = as_json(&server, command);
        let at = found.pointer(pointer).unwrap_or_else(|| panic!("{command:?} has no {pointer}: {found}"));
        assert!(expected.is_empty() || at == expected, "{command:?}: {found}");
    }
    for command in [["evaluate", "alerts", "--endpoint", "leak"].as_slice(), &["evaluate", "drift", "leak"]] {
        assert_eq!(as_json(&server, command), json!([]), "{command:?}");
    }

    // A refusal of the server is one line here too, with its hint.
    let url = ["--url", &server.url];
    let error = complaint(&[["deploy", "leak", "1=90"].as_slice(), &url].concat());
    assert!(error.contains("add up to 90") && error.contains("add up to 100"), "{error}");
    let error = complaint(&[["predict", "leek", &instance].as_slice(), &url].concat());
    assert!(error.contains("`leek` does not exist") && error.contains("`leak`"), "{error}");
    let error = complaint(&[["pipelines", "show", "nonsense"].as_slice(), &url].concat());
    assert!(error.contains("nonsense"), "{error}");

    // A run whose candidate the gate refuses says so by its exit status, under both names of the command.
    let again: [&[&str]; 2] = [
        &["train", "leak", "--cutoff", "2024-03-01T09:00:00Z", "--json"],
        &["pipelines", "run", "leak", "--cutoff", "2024-03-01T08:00:00Z", "--json"],
    ];
    for command in again {
        let output = millpond(&[command, &url].concat());
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        let run: Value = serde_json::from_str(&out(&output)).expect("JSON");
        assert_eq!(run["state"], "refused", "{run:#}");
        let shown = as_json(&server, &["pipelines", "show", run["id"].as_str().expect("an id")]);
        assert_eq!(shown["decision"], run["decision"]);
    }
}

#[test]
fn completions_are_made_for_bash_zsh_and_fish() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef millpond"), ("fish", "complete -c millpond")] {
        let script = printed(&["completions", shell]);
        assert!(script.contains(mark), "{shell}: {}", &script[..script.len().min(200)]);
        for word in ["quarantine", "pipelines", "--url"] {
            // Fish writes long options without their dashes.
            assert!(script.contains(word.trim_start_matches('-')), "{shell} does not complete `{word}`");
        }
    }
}

#[test]
fn config_show_tells_where_each_value_comes_from_and_the_nearer_source_wins() {
    let dir = tempdir().expect("a directory");
    let file = dir.path().join("mine.toml");
    fs::write(
        &file,
        "[server]\ndrain = \"1s\"\nrequest_deadline = \"2s\"\nmax_body_bytes = 1024\n[serving]\nthreads = 3\n",
    )
    .expect("written");
    let show = |flags: &[&str]| {
        let mut command = Command::new(MILLPOND);
        command.current_dir(root()).args(["config", "show", "--config"]).arg(&file);
        command.env("MILLPOND_SERVER_DRAIN", "4s").env("MILLPOND_SERVER_REQUEST_DEADLINE", "5s");
        let output = command.args(["--set", "server.drain=7s"]).args(flags).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        out(&output)
    };
    let rows: Vec<Value> = serde_json::from_str(&show(&["--json"])).expect("JSON");
    let row = |key: &str| {
        let row = rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no `{key}`"));
        let part = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("{row}")).to_owned();
        (part("value"), part("source"))
    };
    assert_eq!(row("server.drain"), ("7s".into(), "command line".into()));
    assert_eq!(row("server.request_deadline"), ("5s".into(), "environment MILLPOND_SERVER_REQUEST_DEADLINE".into()));
    let (value, source) = row("server.max_body_bytes");
    assert_eq!(value, "1024");
    assert!(source.ends_with("mine.toml:4"), "{source}");
    assert_eq!(row("serving.queue_rows"), ("4096".into(), "default".into()));
    assert!(rows.iter().all(|row| row["source"].is_string() && row["doc"].is_string()));
    let text = show(&[]);
    let line = text.lines().find(|line| line.starts_with("server.drain")).expect("a line for each setting");
    assert!(line.contains("7s") && line.contains("command line"), "{line}");
    assert_eq!(text.lines().filter(|line| line.contains('.')).count(), rows.len(), "{text}");
}

#[test]
fn openapi_prints_the_document_that_the_server_serves() {
    let document: Value = serde_json::from_str(&printed(&["openapi"])).expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    assert!(document["paths"]["/api/v1/endpoints/{endpoint}/predict"]["post"].is_object());
    let (server, _data) = Server::fresh();
    assert_eq!(server.get("/openapi.json").ok(), document);
}

#[test]
fn a_server_told_to_stop_finishes_what_it_began_takes_nothing_new_and_exits_with_zero() {
    let (server, data) = Server::fresh();
    server.apply(shop::DEFINITIONS).ok();
    let body = "kettle,at,heat\nk1,2024-01-01T00:00:00Z,1\n";
    let (first, rest) = body.split_at(10);
    let address = server.url.strip_prefix("http://").expect("a URL").to_owned();
    let mut connection = TcpStream::connect(&address).expect("it listens");
    write!(
        connection,
        "POST /api/v1/sources/readings/rows HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/csv\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .expect("sent");
    // This comes when the handler asks for the body: from here on the request is under way.
    let mut interim = [0; 25];
    connection.read_exact(&mut interim).expect("an interim answer");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(first.as_bytes()).expect("sent");

    server.terminate();
    eventually("the door to close", || TcpStream::connect(&address).is_err().then_some(()));
    connection.write_all(rest.as_bytes()).expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"accepted\":1"), "{answer}");
    assert_eq!(server.stop(), Some(0));

    let server = Server::start(data.path());
    let report = server.ingest("readings", "text/csv", body.as_bytes()).ok();
    assert_eq!(report["duplicates"], 1, "{report}");
}
