//! What commands print: text for people, JSON on request, one readable line for an error.

use runtime::config::Loaded;
use serde_json::Value;

use super::table::Table;
use crate::http::problem::chain;

/// One line on standard error, causes after colons.
pub fn print_error(error: &anyhow::Error) {
    eprintln!("error: {}", chain(error.as_ref()));
}

/// Prints JSON for machines, or what `text` makes of it for people.
pub fn show(json: bool, value: &Value, text: impl FnOnce(&Value) -> String) {
    if json {
        println!("{value:#}");
    } else {
        print!("{}", text(value));
    }
}

/// A table of the named members of an array of objects; a dotted name reaches inside.
#[must_use]
pub fn rows(value: &Value, columns: &[(&str, &str)]) -> String {
    let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    let mut table = Table::new(&heads);
    let none = Vec::new();
    let items = value.as_array().unwrap_or(&none);
    for item in items {
        table.row(columns.iter().map(|(_, path)| cell(at(item, path))));
    }
    if items.is_empty() { "nothing yet\n".to_owned() } else { table.to_string() }
}

/// The member at a dotted path.
#[must_use]
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, part| &value[part])
}

/// One value as a cell.
#[must_use]
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => n.as_f64().map_or_else(String::new, |x| format!("{x:.4}")),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// `config show`.
pub fn config(loaded: &Loaded, json: bool) -> anyhow::Result<()> {
    let rows = loaded.rows();
    if json {
        println!("{:#}", serde_json::to_value(&rows)?);
        return Ok(());
    }
    let mut table = Table::new(&["setting", "value", "source"]);
    for row in rows {
        table.row([row.key.to_string(), row.value.to_string(), row.source.to_string()]);
    }
    print!("{table}");
    Ok(())
}
