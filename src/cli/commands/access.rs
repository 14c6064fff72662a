//! `tokens`, `projects` and `audit`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::{
    Global,
    client::{CallError, Client, encode},
    output,
};

#[derive(Subcommand)]
pub enum Tokens {
    /// Make a token; its secret is printed this once.
    Create {
        /// Who holds it: what the audit log calls them.
        name: String,
        /// viewer, reviewer, engineer, operator or admin; each may do what those before it may.
        #[arg(long, default_value = "engineer")]
        role: String,
        /// Narrow it to a right (read, predict, review, write, operate, administer); may be given again.
        #[arg(long = "scope", value_name = "RIGHT")]
        scopes: Vec<String>,
        /// How long it holds, as 90d, or `never`.
        #[arg(long, default_value = "90d", value_name = "SPAN")]
        expires_in: String,
        /// Open every project with it; needs a token that does.
        #[arg(long)]
        house: bool,
    },
    /// Tokens of the project, oldest first.
    List,
    /// Replace a token by a new one that does the same.
    Rotate {
        id: String,
        /// How long the old one goes on.
        #[arg(long, default_value = "0s", value_name = "SPAN")]
        overlap: String,
    },
    /// Let a token open nothing from now on.
    Revoke { id: String },
    /// Who you are and what you may do.
    Whoami,
}

impl Tokens {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(global)?;
        // The secret alone on standard output, so that it can be piped; what it is on standard error.
        let made = |answer: &Value| {
            eprintln!(
                "token {} for {}; it is shown this once:",
                output::cell(&answer["id"]),
                output::cell(&answer["name"])
            );
            format!("{}\n", output::cell(&answer["secret"]))
        };
        match self {
            Self::Create { name, role, scopes, expires_in, house } => {
                let body =
                    json!({"name": name, "role": role, "scopes": scopes, "expires_in": expires_in, "house": house});
                output::show(global.json, &client.post("/api/v1/tokens", &body)?, made);
            }
            Self::List => output::show(global.json, &client.get("/api/v1/tokens")?, |all| {
                let columns = ["id", "name", "role", "scopes", "house", "expires_at", "revoked_at", "last_used_at"];
                output::rows(all, &columns.map(|column| (column, column)))
            }),
            Self::Rotate { id, overlap } => {
                let path = format!("/api/v1/tokens/{}/rotate", encode(id));
                output::show(global.json, &client.post(&path, &json!({"overlap": overlap}))?, made);
            }
            Self::Revoke { id } => {
                let answer = client.delete(&format!("/api/v1/tokens/{}", encode(id)), None)?;
                output::show(global.json, &answer, |token| {
                    format!("{id} of {} is revoked\n", output::cell(&token["name"]))
                });
            }
            Self::Whoami => output::show(global.json, &client.get("/api/v1/whoami")?, |who| {
                let name = who["token"]["name"].as_str().unwrap_or("nobody needs a token here");
                format!("{name}, in project {}: {}\n", output::cell(&who["project"]), output::cell(&who["rights"]))
            }),
        }
        Ok(())
    }
}

#[derive(Subcommand)]
pub enum Projects {
    /// Projects that are open to you.
    List,
    /// Create a project.
    Create { name: String },
}

impl Projects {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(global)?;
        match self {
            Self::List => output::show(global.json, &client.get("/api/v1/projects")?, |all| {
                output::rows(all, &[("project", "name"), ("created", "created_at"), ("by", "created_by")])
            }),
            Self::Create { name } => {
                let answer = client.post("/api/v1/projects", &json!({"name": name}))?;
                output::show(global.json, &answer, |_| {
                    format!(
                        "project {name} is there; make a token for it with `millpond --project {name} tokens create`\n"
                    )
                });
            }
        }
        Ok(())
    }
}

#[derive(Subcommand)]
pub enum Audit {
    /// Who did or tried what, oldest first.
    Log {
        /// Only what this caller did or tried.
        #[arg(long)]
        actor: Option<String>,
        /// Only events of this kind, as access.refused.
        #[arg(long)]
        kind: Option<String>,
        /// Only events after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Check every link of the log; fails where one does not hold.
    Verify {
        /// A head that an earlier check printed: finds out, too, when the end was cut off.
        #[arg(long, value_name = "SEQ:SEAL", conflicts_with = "head_file")]
        head: Option<String>,
        /// Reads the head from this file if it is there, and writes the new one to it.
        #[arg(long, value_name = "FILE")]
        head_file: Option<PathBuf>,
    },
}

impl Audit {
    pub fn run(&self, global: &Global) -> anyhow::Result<ExitCode> {
        // Checking reads the whole log.
        let client = Client::patient(global)?;
        match self {
            Self::Log { actor, kind, after, limit } => {
                let mut path = format!("/api/v1/audit?after={after}&limit={limit}");
                for (name, value) in [("actor", actor), ("kind", kind)] {
                    if let Some(value) = value {
                        path.push_str(&format!("&{name}={}", encode(value)));
                    }
                }
                output::show(global.json, &client.get(&path)?, |page| {
                    let columns = ["seq", "at", "actor", "kind", "subject", "request", "body"];
                    output::rows(&page["events"], &columns.map(|column| (column, column)))
                });
            }
            Self::Verify { head, head_file } => return verify(&client, global.json, head.clone(), head_file.as_ref()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn verify(client: &Client, json: bool, head: Option<String>, file: Option<&PathBuf>) -> anyhow::Result<ExitCode> {
    let kept = file
        .filter(|path| path.exists())
        .map(|path| std::fs::read_to_string(path).with_context(|| format!("could not read `{}`", path.display())));
    let head = head.or(kept.transpose()?);
    let query = head.map_or_else(String::new, |head| format!("?head={}", encode(head.trim())));
    let answer = match client.get(&format!("/api/v1/audit/verify{query}")) {
        Ok(answer) => answer,
        // A broken log is an answer, and not a good one.
        Err(CallError::Refused { code, detail, .. }) if code == "data_loss" => {
            output::show(json, &json!({"broken": detail}), |_| format!("the audit log does not hold: {detail}\n"));
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(path) = file {
        std::fs::write(path, format!("{}\n", output::cell(&answer["head"])))
            .with_context(|| format!("could not write `{}`", path.display()))?;
    }
    output::show(json, &answer, |answer| {
        format!(
            "{} events, every link holds; head {}\n",
            output::cell(&answer["events"]),
            output::cell(&answer["head"])
        )
    });
    Ok(ExitCode::SUCCESS)
}
