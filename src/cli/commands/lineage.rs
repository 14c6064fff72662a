//! `lineage`.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

#[derive(Args)]
pub struct Lineage {
    /// dataset/DIGEST, input/NAME/DIGEST, run/ID, logged_model/ID, model/NAME/VERSION, endpoint/NAME,
    /// predictions/ENDPOINT/VERSION or prediction/ID.
    node: String,
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    direction: Direction,
    /// Steps from the node.
    #[arg(long, default_value_t = 10)]
    depth: usize,
    /// Of a dataset: only which versions and endpoints it reached.
    #[arg(long, conflicts_with_all = ["direction", "depth"])]
    impact: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Direction {
    /// What it came from.
    Up,
    /// What came from it.
    Down,
    Both,
}

impl Lineage {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(global)?;
        if self.impact {
            let digest = self.node.strip_prefix("dataset/").unwrap_or(&self.node);
            let answer = client.get(&format!("/api/v1/datasets/{}/impact", encode(digest)))?;
            output::show(global.json, &answer, reached);
            return Ok(());
        }
        let direction = match self.direction {
            Direction::Up => "up",
            Direction::Down => "down",
            Direction::Both => "both",
        };
        let path = format!("/api/v1/lineage?node={}&direction={direction}&depth={}", encode(&self.node), self.depth);
        output::show(global.json, &client.get(&path)?, |graph| {
            let mut text = output::rows(&graph["nodes"], &[("node", "id"), ("what", "label")]);
            if graph["edges"].as_array().is_some_and(|edges| !edges.is_empty()) {
                text.push('\n');
                text += &output::rows(&graph["edges"], &[("from", "from"), ("relation", "relation"), ("to", "to")]);
            }
            with_cut(text, graph)
        });
        Ok(())
    }
}

fn reached(impact: &Value) -> String {
    let mut text = format!("versions: {}\n", output::cell(&impact["versions"]));
    text += &output::rows(
        &impact["endpoints"],
        &[("endpoint", "endpoint"), ("versions", "versions"), ("now", "now"), ("predictions", "predictions")],
    );
    with_cut(text, impact)
}

fn with_cut(mut text: String, answer: &Value) -> String {
    if let Some(cut) = answer["cut"].as_str() {
        // Writing to a text does not fail.
        let _ = writeln!(text, "\n{cut}");
    }
    text
}
