//! `sql`: a question and its answer.

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::{
    Global,
    client::Client,
    output::{self, cell},
    table::Table,
};

/// A query, and how much of its answer to print.
#[derive(Args)]
pub struct Sql {
    /// One query, or `@FILE`.
    sql: String,
    /// A value for each `?` or `$1`, `$2`, ... as JSON; what is no JSON is text.
    #[arg(long = "param", value_name = "VALUE")]
    parameters: Vec<String>,
    /// Rows to print at most.
    #[arg(long, default_value_t = 100, value_name = "ROWS")]
    limit: usize,
}

impl Sql {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let text = match self.sql.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("could not read `{path}`"))?,
            None => self.sql.clone(),
        };
        let value = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
        let parameters: Vec<Value> = self.parameters.iter().map(value).collect();
        let body = json!({ "sql": text, "parameters": parameters, "limit": self.limit });
        let found = Client::new(global)?.post("/api/v1/sql", &body)?;
        output::show(global.json, &found, |found| shown(found, self.limit));
        Ok(())
    }
}

fn shown(found: &Value, limit: usize) -> String {
    let none = Vec::new();
    let columns: Vec<&str> =
        found["columns"].as_array().unwrap_or(&none).iter().filter_map(|column| column["name"].as_str()).collect();
    let mut table = Table::new(&columns);
    for row in found["rows"].as_array().unwrap_or(&none) {
        table.row(columns.iter().map(|column| cell(&row[*column])));
    }
    let more = found["truncated"] == true;
    if more { format!("{table}only the first {limit} rows: raise --limit for more\n") } else { table.to_string() }
}
