//! `models protect`, `ask`, `approve` and the like.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

/// Who does it, for the journal.
#[derive(Args)]
pub struct Who {
    /// Who you are; kept in the journal.
    #[arg(long, env = "USER", value_name = "NAME")]
    actor: String,
}

/// What is said of a request.
#[derive(Args)]
pub struct Said {
    model: String,
    /// Id of the request.
    request: String,
    #[arg(long, default_value = "")]
    comment: String,
    #[command(flatten)]
    who: Who,
}

#[derive(Subcommand)]
pub enum Approving {
    /// Protect an alias: it moves only when others approve.
    #[command(
        after_help = "Example:\n  millpond models protect flight-delay champion --approvals 2 --gate '{\"metric\":{\"key\":\"holdout_auc\",\"at_least\":0.7}}' --gate '{\"has_lineage\":true}'"
    )]
    Protect {
        model: String,
        alias: String,
        /// How many people have to approve a move; who asks is not one of them.
        #[arg(long, default_value_t = 1)]
        approvals: u32,
        /// What a version must show, as JSON; may be given several times.
        #[arg(long, value_name = "JSON")]
        gate: Vec<String>,
        /// Let versions through whose files carry code.
        #[arg(long)]
        allow_unsafe: bool,
        /// Why; kept in the journal.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        who: Who,
    },
    /// Lift the protection of an alias.
    #[command(after_help = "Example:\n  millpond models unprotect flight-delay champion --reason 'the trial is over'")]
    Unprotect {
        model: String,
        alias: String,
        /// Why; kept in the journal.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        who: Who,
    },
    /// The protected aliases of a model.
    #[command(after_help = "Example:\n  millpond models protections flight-delay")]
    Protections { model: String },
    /// Ask for a protected alias to move.
    #[command(after_help = "Example:\n  millpond models ask flight-delay champion 3 --reason 'better on the holdout'")]
    Ask {
        model: String,
        alias: String,
        version: u32,
        /// Why the alias should move; those who approve read it.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        who: Who,
    },
    /// Requests to move protected aliases, newest first.
    #[command(after_help = "Example:\n  millpond models approvals flight-delay --state pending")]
    Approvals {
        model: String,
        /// pending, approved, rejected, withdrawn or superseded.
        #[arg(long)]
        state: Option<String>,
    },
    /// Approve a request; the last approval that is needed moves the alias.
    #[command(after_help = "Example:\n  millpond models approve flight-delay REQUEST --comment 'holdout checked'")]
    Approve(Said),
    /// Reject a request.
    #[command(after_help = "Example:\n  millpond models reject flight-delay REQUEST --comment 'worse on weekends'")]
    Reject(Said),
    /// Withdraw a request of your own.
    #[command(after_help = "Example:\n  millpond models withdraw flight-delay REQUEST")]
    Withdraw(Said),
    /// Every change of a model, its versions and aliases, newest first.
    #[command(
        after_help = "Example:\n  millpond models history flight-delay\n  millpond models history flight-delay --alias champion --limit 5"
    )]
    History {
        model: String,
        /// Only of this version.
        #[arg(long)]
        version: Option<u32>,
        /// Only of this alias.
        #[arg(long, conflicts_with = "version")]
        alias: Option<String>,
        /// Only events before this number.
        #[arg(long)]
        before: Option<u64>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

impl Approving {
    pub fn run(&self, global: &Global, client: &Client) -> anyhow::Result<()> {
        let base = |model: &str| format!("/api/v1/models/{}", encode(model));
        match self {
            Self::Protect { model, alias, approvals, gate, allow_unsafe, reason, who } => {
                let gates = gate.iter().map(|text| gate_of(text)).collect::<anyhow::Result<Vec<_>>>()?;
                let path = format!("{}/aliases/{}/protection", base(model), encode(alias));
                let body = json!({
                    "approvals": approvals, "gates": gates, "allow_unsafe": allow_unsafe, "reason": reason,
                    "actor": who.actor,
                });
                let answer = client.put(&path, &body)?;
                output::show(global.json, &answer, |_| {
                    format!("{alias} of {model} is protected: it moves when {approvals} approve\n")
                });
            }
            Self::Unprotect { model, alias, reason, who } => {
                let path = format!("{}/aliases/{}/protection", base(model), encode(alias));
                let answer = client.delete_with(&path, &json!({"reason": reason, "actor": who.actor}))?;
                output::show(global.json, &answer, |_| format!("{alias} of {model} is not protected\n"));
            }
            Self::Protections { model } => {
                let answer = client.get(&format!("{}/protections", base(model)))?;
                output::show(global.json, &answer, |all| {
                    output::rows(
                        all,
                        &[("alias", "alias"), ("approvals", "approvals"), ("gates", "gates"), ("by", "actor")],
                    )
                });
            }
            Self::Ask { model, alias, version, reason, who } => {
                let body = json!({"alias": alias, "version": version, "reason": reason, "actor": who.actor});
                let answer = client.post(&format!("{}/approvals", base(model)), &body)?;
                output::show(global.json, &answer, standing);
            }
            Self::Approvals { model, state } => {
                let state = state.as_ref().map_or_else(String::new, |state| format!("?state={}", encode(state)));
                let answer = client.get(&format!("{}/approvals{state}", base(model)))?;
                output::show(global.json, &answer, |all| output::rows(all, COLUMNS));
            }
            Self::Approve(said) => said.send(global, client, "approve")?,
            Self::Reject(said) => said.send(global, client, "reject")?,
            Self::Withdraw(said) => said.send(global, client, "withdraw")?,
            Self::History { model, version, alias, before, limit } => {
                let mut path = format!("{}/history?limit={limit}", base(model));
                let given = [
                    version.map(|version| format!("&version={version}")),
                    alias.as_ref().map(|alias| format!("&alias={}", encode(alias))),
                    before.map(|before| format!("&before={before}")),
                ];
                path.extend(given.into_iter().flatten());
                output::show(global.json, &client.get(&path)?, |page| {
                    output::rows(
                        &page["events"],
                        &[
                            ("event", "seq"),
                            ("at", "at"),
                            ("kind", "kind"),
                            ("subject", "subject"),
                            ("by", "actor"),
                            ("cause", "cause"),
                        ],
                    )
                });
            }
        }
        Ok(())
    }
}

const COLUMNS: &[(&str, &str)] = &[
    ("request", "id"),
    ("alias", "alias"),
    ("version", "version"),
    ("state", "state"),
    ("asked by", "asked_by"),
    ("needed", "needed"),
    ("reason", "reason"),
];

impl Said {
    fn send(&self, global: &Global, client: &Client, verdict: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/models/{}/approvals/{}/{verdict}", encode(&self.model), encode(&self.request));
        let answer = client.post(&path, &json!({"actor": self.who.actor, "comment": self.comment}))?;
        output::show(global.json, &answer, standing);
        Ok(())
    }
}

/// Where a request stands, in a line.
fn standing(asked: &Value) -> String {
    let text = |member: &str| output::cell(&asked[member]);
    let given =
        asked["votes"].as_array().map_or(0, |votes| votes.iter().filter(|vote| vote["verdict"] == "approve").count());
    let (alias, model, version) = (text("alias"), text("model"), text("version"));
    match asked["state"].as_str() {
        Some("approved") => format!("approved: {alias} now points at {model}/{version}\n"),
        Some("pending") => {
            format!("request {}: {alias} to {model}/{version}, {given} of {} approvals\n", text("id"), text("needed"))
        }
        _ => format!("request {} is {}\n", text("id"), text("state")),
    }
}

fn gate_of(text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).map_err(|e| anyhow::anyhow!("the gate `{text}` is not JSON: {e}"))
}
