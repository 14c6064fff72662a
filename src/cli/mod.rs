//! The command line: `up` runs the server, `worker` trains, everything else is a client of the REST API.

mod client;
mod commands;
mod demo;
mod files;
mod mlflow_store;
mod output;
mod table;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use runtime::config::Loaded;
use serde_json::json;

pub use output::print_error;

const DEFAULT_CONFIG: &str = "millpond.toml";

/// An ML platform in one binary: registry, features, training, serving, drift, and the loop that retrains.
#[derive(Parser)]
#[command(
    name = "millpond",
    version,
    max_term_width = 110,
    after_help = "\
Example:
  millpond up &
  millpond apply examples/sensors
  millpond ingest readings examples/sensors/data/readings.csv
  millpond predict pump-fault '{\"pump\":\"p01\",\"check_id\":\"c1\",\"load\":0.7}'"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// What every command understands.
#[derive(Args, Clone)]
pub struct Global {
    /// Server to talk to.
    #[arg(long, env = "MILLPOND_URL", default_value = "http://127.0.0.1:8080", global = true, value_name = "URL")]
    pub url: String,
    /// Token to show, as `millpond tokens create` gives it; rather set the variable than the flag, which others can see.
    #[arg(long, env = "MILLPOND_TOKEN", hide_env_values = true, global = true, value_name = "TOKEN", hide = true)]
    pub token: Option<String>,
    /// Project to work in, for tokens that open several.
    #[arg(long, env = "MILLPOND_PROJECT", global = true, value_name = "NAME")]
    pub project: Option<String>,
    /// Certificates (PEM) to trust instead of the usual ones, when the server's is your own.
    #[arg(long, env = "MILLPOND_CA", global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server.
    #[command(after_help = "Example:\n  millpond up --data-dir ./data --listen 127.0.0.1:8080")]
    Up(Up),
    /// Apply definitions from YAML files or folders.
    #[command(after_help = "Example:\n  millpond apply examples/flights --dry-run\n  millpond apply examples/flights")]
    Apply(commands::Apply),
    /// Ingest rows into a source from CSV, JSON lines or Parquet files.
    #[command(after_help = "Example:\n  millpond ingest weather weather.csv weather-april.parquet")]
    Ingest(commands::Ingest),
    /// Read features: online as they stand, or as of a time.
    #[command(
        after_help = "Example:\n  millpond features online flight_features '{\"origin\":\"JFK\",\"carrier\":\"UA\"}'\n  millpond features historical flight_features '{\"origin\":\"JFK\",\"event_timestamp\":\"2013-04-01T12:00:00Z\"}'"
    )]
    Features {
        #[command(subcommand)]
        what: commands::Features,
    },
    /// Run a pipeline and follow it: dataset, train, gate, roll out.
    #[command(after_help = "Example:\n  millpond train flight-delay --cutoff 2013-04-01T00:00:00Z")]
    Train(commands::Train),
    /// Look at registered models and move aliases.
    #[command(
        after_help = "Example:\n  millpond models list\n  millpond models show flight-delay\n  millpond models alias flight-delay champion 3 --reason 'holdout checked by hand'\n  millpond models verify flight-delay/3\n  millpond models import fraud ./fraud.onnx"
    )]
    Models {
        #[command(subcommand)]
        what: commands::Models,
    },
    /// Clear away blobs that nothing names any more, and, when asked, what was deleted long ago.
    #[command(
        after_help = "Example:\n  millpond gc --dry-run\n  millpond gc --older-than 7d --deleted-runs-older-than 30d"
    )]
    Gc(commands::Gc),
    /// Trace what a dataset, run, version, endpoint or prediction came from, and what came from it.
    #[command(
        after_help = "Example:\n  millpond lineage model/flight-delay/3\n  millpond lineage prediction/ID --direction up\n  millpond lineage dataset/DIGEST --impact"
    )]
    Lineage(commands::Lineage),
    /// Bring in the store of another system, with its ids.
    #[command(after_help = "Example:\n  millpond import mlflow --store sqlite:///mlflow.db --artifacts ./mlartifacts")]
    Import {
        #[command(subcommand)]
        what: Import,
    },
    /// Put versions behind an endpoint.
    #[command(after_help = "Example:\n  millpond deploy flight-delay 3=80 4=20 --shadow 1 --reason 'try 4'")]
    Deploy(commands::Deploy),
    /// Ask an endpoint for predictions.
    #[command(
        after_help = "Example:\n  millpond predict pump-fault '{\"pump\":\"p01\",\"check_id\":\"c1\",\"load\":0.7}'\n  millpond predict pump-fault @rows.json"
    )]
    Predict(commands::Predict),
    /// Post labels, read quality, drift and alerts.
    #[command(
        after_help = "Example:\n  millpond evaluate quality flight-delay --bucket month\n  millpond evaluate drift flight-delay\n  millpond evaluate alerts\n  millpond evaluate label flight-delay 20130401-UA-1545-EWR true"
    )]
    Evaluate {
        #[command(subcommand)]
        what: commands::Evaluate,
    },
    /// List review tasks and answer them.
    #[command(
        after_help = "Example:\n  millpond review list flight-delay\n  millpond review answer TASK true --reviewer ada"
    )]
    Review {
        #[command(subcommand)]
        what: commands::Review,
    },
    /// List and show pipeline runs, and the journal.
    #[command(
        after_help = "Example:\n  millpond pipelines list\n  millpond pipelines show RUN\n  millpond pipelines events"
    )]
    Pipelines {
        #[command(subcommand)]
        what: commands::Pipelines,
    },
    /// Make, list, rotate and revoke tokens.
    #[command(
        after_help = "Example:\n  millpond tokens create ann --role engineer --expires-in 90d\n  millpond tokens create checkout --role engineer --scope predict\n  millpond tokens rotate 0123456789abcdef --overlap 1h"
    )]
    Tokens {
        #[command(subcommand)]
        what: commands::Tokens,
    },
    /// List and create projects: tenants that share nothing.
    #[command(after_help = "Example:\n  millpond projects create vision\n  millpond --project vision models list")]
    Projects {
        #[command(subcommand)]
        what: commands::Projects,
    },
    /// Read the audit log and check that nobody changed it.
    #[command(
        after_help = "Example:\n  millpond audit log --kind access.refused\n  millpond audit verify --head-file audit.head"
    )]
    Audit {
        #[command(subcommand)]
        what: commands::Audit,
    },
    /// Replay an example in event time through a running server: the whole loop.
    #[command(after_help = "Example:\n  millpond demo flights\n  millpond demo sensors --folder examples/sensors")]
    Demo(demo::Demo),
    /// Show the configuration and where each value comes from.
    #[command(
        after_help = "Example:\n  millpond config show\n  MILLPOND_SERVER_LISTEN=127.0.0.1:9000 millpond config show --json"
    )]
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Print the OpenAPI document.
    #[command(after_help = "Example:\n  millpond openapi > openapi.json")]
    Openapi,
    /// Print which right each call needs, and which roles hold it (Markdown, or JSON with --json).
    #[command(after_help = "Example:\n  millpond permissions --json")]
    Permissions,
    /// Print shell completions.
    #[command(after_help = "Example:\n  millpond completions bash > /etc/bash_completion.d/millpond")]
    Completions { shell: Shell },
    /// What a training job runs as; started by the server.
    #[command(hide = true)]
    Worker {
        #[command(subcommand)]
        what: Worker,
    },
}

#[derive(Subcommand)]
enum Worker {
    Train { dir: PathBuf },
}

#[derive(Subcommand)]
enum Import {
    /// Experiments, runs, models, versions and their files of an MLflow store; may be run again at any time.
    Mlflow(mlflow_store::Mlflow),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Every setting, its value and its source.
    Show(Settings),
    /// The reference page, as Markdown.
    Reference,
}

#[derive(Args)]
struct Up {
    #[command(flatten)]
    settings: Settings,
}

/// Flags that override the configuration file and the environment.
#[derive(Args, Clone, Default)]
struct Settings {
    /// Configuration file (TOML) [default: millpond.toml where there is one].
    #[arg(long, env = "MILLPOND_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on, as in 127.0.0.1:8080 (server.listen).
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Directory for everything the server keeps (data.dir).
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Any other setting, as in `--set serving.max_in_flight=64`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    fn load(&self) -> anyhow::Result<Loaded> {
        let mut flags = Vec::new();
        for (key, value) in [("server.listen", &self.listen), ("data.dir", &self.data_dir)] {
            flags.extend(value.clone().map(|value| (key.to_owned(), value)));
        }
        for pair in &self.set {
            let (key, value) = pair.split_once('=').with_context(|| format!("--set `{pair}` is not KEY=VALUE"))?;
            flags.push((key.trim().to_owned(), value.to_owned()));
        }
        let default = Path::new(DEFAULT_CONFIG);
        let file = self.config.as_deref().or_else(|| default.exists().then_some(default));
        Ok(runtime::config::load(file, std::env::vars(), &flags)?)
    }
}

/// The whole command line. A command's examples stand under each of its subcommands too.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| match command.get_after_help().cloned() {
        Some(examples) => command.mut_subcommands(|inner| inner.after_help(examples.clone())),
        None => command,
    })
}

/// Parses the command line and does what it says.
pub fn run() -> anyhow::Result<ExitCode> {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|e| e.exit());
    let global = &cli.global;
    match cli.command {
        Command::Up(up) => {
            let loaded = up.settings.load()?;
            runtime::telemetry::init(loaded.config.log.format, &loaded.config.log.filter)?;
            let threads = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("could not start the async runtime")?;
            let ended = threads.block_on(crate::serve::up(loaded));
            threads.shutdown_timeout(std::time::Duration::from_secs(2));
            ended?;
        }
        Command::Worker { what: Worker::Train { dir } } => trainer::worker(&dir)?,
        Command::Apply(command) => command.run(global)?,
        Command::Ingest(command) => return command.run(global),
        Command::Features { what } => what.run(global)?,
        Command::Train(command) => return command.run(global),
        Command::Models { what } => return what.run(global),
        Command::Gc(command) => command.run(global)?,
        Command::Lineage(command) => command.run(global)?,
        Command::Import { what: Import::Mlflow(command) } => return command.run(global),
        Command::Deploy(command) => command.run(global)?,
        Command::Predict(command) => command.run(global)?,
        Command::Evaluate { what } => what.run(global)?,
        Command::Review { what } => what.run(global)?,
        Command::Pipelines { what } => return what.run(global),
        Command::Tokens { what } => what.run(global)?,
        Command::Projects { what } => what.run(global)?,
        Command::Audit { what } => return what.run(global),
        Command::Demo(demo) => demo.run(global)?,
        Command::Config { what: ConfigCommand::Show(settings) } => output::config(&settings.load()?, global.json)?,
        Command::Config { what: ConfigCommand::Reference } => print!("{}", runtime::Config::reference_markdown()),
        Command::Openapi => println!("{}", crate::http::openapi().to_pretty_json()?),
        Command::Permissions if global.json => {
            let rules = crate::http::permissions();
            let rules: Vec<_> =
                rules.map(|(method, route, right)| json!({"method": method, "route": route, "right": right})).collect();
            println!("{:#}", serde_json::Value::from(rules));
        }
        Command::Permissions => print!("{}", crate::http::permissions_page()),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut command(), "millpond", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}
