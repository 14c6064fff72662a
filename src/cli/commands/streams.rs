//! `features streams`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

#[derive(Args)]
pub struct Streams {
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Subcommand)]
enum Act {
    /// Stop reading; entries wait in the stream.
    #[command(after_help = "Example:\n  millpond features streams pause readings")]
    Pause {
        /// Source that the stream belongs to.
        source: String,
    },
    /// Go on reading.
    #[command(after_help = "Example:\n  millpond features streams resume readings")]
    Resume {
        /// Source that the stream belongs to.
        source: String,
    },
}

impl Streams {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(global)?;
        let act = |source: &str, verb: &str| {
            client.post(&format!("/api/v1/sources/{}/stream/{verb}", encode(source)), &json!({}))
        };
        let answer = match &self.act {
            None => client.get("/api/v1/streams")?,
            Some(Act::Pause { source }) => Value::Array(vec![act(source, "pause")?]),
            Some(Act::Resume { source }) => Value::Array(vec![act(source, "resume")?]),
        };
        let columns = ["source", "redis", "key", "group", "phase", "lag", "pending", "acknowledged", "error"]
            .map(|name| (name, name));
        output::show(global.json, &answer, |all| output::rows(all, &columns));
        Ok(())
    }
}
