//! Filters and orders as SQL. Whatever a caller wrote becomes a bound value, never text of the statement.
//!
//! Side tables are asked row by row, through their primary key, so that a search costs what its experiments hold and
//! not what the database holds. An index by key and value would make a rare value cheaper to find, but a common one
//! would then be looked up everywhere, and every logged value would be written twice.

use storage::sql::Dialect;

use super::{
    Kind,
    fields::{self, Attribute, Field, Holds, Side},
    filter::{Expr, Test},
    lex::Op,
    order::{OnDataset, Order},
    token::Mark,
};
use crate::query::Statement;

/// The SQL type of a result column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    Text,
    Int,
    Float,
}

/// One column of the result that the page is sorted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub name: String,
    pub cell: Cell,
    pub descending: bool,
    pub nullable: bool,
}

/// The columns that name a thing of a kind.
pub(super) const fn keys(kind: Kind) -> &'static [(&'static str, Cell)] {
    match kind {
        Kind::Runs => &[("r.id", Cell::Text)],
        Kind::Experiments => &[("e.id", Cell::Int)],
        Kind::Models => &[("m.name", Cell::Text)],
        Kind::Versions => &[("v.model", Cell::Text), ("v.version", Cell::Int)],
        Kind::LoggedModels => &[("l.id", Cell::Text)],
    }
}

/// What the page is sorted by: for each order its value, and before it, where there may be none, a rank that puts
/// numbers and texts (0) before NaN (1) before what is missing (2).
pub(super) fn slots(orders: &[Order]) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (i, order) in orders.iter().enumerate() {
        let (cell, nullable) = match &order.field {
            Field::Attribute(attribute) => match attribute.holds {
                Holds::Text | Holds::ModelStatus => (Cell::Text, attribute.nullable),
                Holds::Id | Holds::Int | Holds::Time => (Cell::Int, attribute.nullable),
                Holds::Float => (Cell::Float, attribute.nullable),
            },
            Field::Kept(side, _) => (if side.holds == Holds::Float { Cell::Float } else { Cell::Text }, true),
            Field::Dataset(_) => (Cell::Text, true),
        };
        if nullable {
            slots.push(Slot { name: format!("n{i}"), cell: Cell::Int, descending: false, nullable: false });
        }
        slots.push(Slot { name: format!("v{i}"), cell, descending: order.descending, nullable });
    }
    slots
}

/// Everything that makes a page.
pub(super) struct Plan<'a> {
    /// Of the database that is asked.
    pub dialect: Dialect,
    pub kind: Kind,
    pub filter: Option<&'a Expr>,
    pub orders: &'a [Order],
    pub slots: &'a [Slot],
    /// Metrics of logged models count only if they were measured on one of these; empty: on any.
    pub datasets: &'a [OnDataset],
    /// Sort values of the row before the page.
    pub after: Option<&'a [Mark]>,
    pub limit: usize,
}

impl Plan<'_> {
    /// Rows of the keys and then the slots.
    pub(super) fn statement(&self, scope: impl FnOnce(&mut Statement)) -> Statement {
        let keys: Vec<String> = (0..keys(self.kind).len()).map(|i| format!("k{i}")).collect();
        let mut names: Vec<&str> = keys.iter().map(String::as_str).collect();
        names.extend(self.slots.iter().map(|slot| slot.name.as_str()));
        // The inner select names each sort value once, so that comparing and ordering can use it by name.
        let mut sql = Statement::new(&format!("SELECT {} FROM (SELECT ", names.join(", ")));
        self.columns(&mut sql);
        sql.push(" FROM ").push(fields::table(self.kind));
        self.joins(&mut sql);
        sql.push(" WHERE (");
        let open = sql.text().len();
        scope(&mut sql);
        if sql.text().len() == open {
            sql.push("1 = 1");
        }
        sql.push(")");
        if let Some(filter) = self.filter {
            sql.push(" AND ");
            self.condition(&mut sql, filter);
        }
        if !self.datasets.is_empty() && !self.filter.is_some_and(asks_metric) {
            sql.push(" AND EXISTS (SELECT 1 FROM registry_logged_model_metrics s WHERE s.model = l.id");
            on_any(&mut sql, self.datasets);
            sql.push(")");
        }
        sql.push(") AS found");
        if let Some(marks) = self.after {
            sql.push(" WHERE ");
            after(&mut sql, self.slots, marks);
        }
        let order = |slot: &Slot| format!("{}{}", slot.name, if slot.descending { " DESC" } else { "" });
        let order: Vec<_> = self.slots.iter().map(order).collect();
        sql.push(" ORDER BY ").push(&order.join(", ")).push(" LIMIT ");
        sql.bind(i64::try_from(self.limit).unwrap_or(i64::MAX));
        sql
    }

    fn columns(&self, sql: &mut Statement) {
        for (i, (column, _)) in keys(self.kind).iter().enumerate() {
            sql.push(&format!("{}{column} AS k{i}", if i == 0 { "" } else { ", " }));
        }
        for (i, order) in self.orders.iter().enumerate() {
            match &order.field {
                Field::Attribute(Attribute { sql: column, nullable, .. }) => {
                    if *nullable {
                        sql.push(&format!(", CAST(CASE WHEN {column} IS NULL THEN 2 ELSE 0 END AS BIGINT) AS n{i}"));
                    }
                    sql.push(&format!(", {column} AS v{i}"));
                }
                Field::Kept(_, key) if is_logged_metric(self.kind, &order.field) => {
                    sql.push(", CAST(COALESCE((SELECT CASE WHEN o.value IS NULL THEN 1 ELSE 0 END ");
                    newest_value(sql, key, &order.on);
                    sql.push(&format!("), 2) AS BIGINT) AS n{i}, (SELECT o.value "));
                    newest_value(sql, key, &order.on);
                    sql.push(&format!(") AS v{i}"));
                }
                _ => {
                    let rank = format!("CASE WHEN o{i}.key IS NULL THEN 2 WHEN o{i}.value IS NULL THEN 1 ELSE 0 END");
                    sql.push(&format!(", CAST({rank} AS BIGINT) AS n{i}, o{i}.value AS v{i}"));
                }
            }
        }
    }

    fn joins(&self, sql: &mut Statement) {
        for (i, order) in self.orders.iter().enumerate() {
            let Field::Kept(Side { table, .. }, key) = &order.field else { continue };
            if is_logged_metric(self.kind, &order.field) {
                continue;
            }
            sql.push(&format!(" LEFT JOIN {table} o{i} ON "));
            link(sql, &order.field, &format!("o{i}"));
            sql.push(&format!("o{i}.key = ")).bind(key.as_str());
        }
    }

    fn condition(&self, sql: &mut Statement, expr: &Expr) {
        match expr {
            Expr::All(parts) => self.joined(sql, parts, " AND "),
            Expr::Any(parts) => self.joined(sql, parts, " OR "),
            Expr::Not(inner) => {
                sql.push("NOT (");
                self.condition(sql, inner);
                sql.push(")");
            }
            Expr::Clause(field, test) => self.clause(sql, field, test),
        }
    }

    fn joined(&self, sql: &mut Statement, parts: &[Expr], word: &str) {
        for (i, part) in parts.iter().enumerate() {
            sql.push(if i == 0 { "(" } else { word });
            self.condition(sql, part);
        }
        sql.push(")");
    }

    fn clause(&self, sql: &mut Statement, field: &Field, test: &Test) {
        let (table, column) = match field {
            Field::Attribute(attribute) => return self.attribute(sql, attribute, test),
            Field::Kept(side, _) => (side.table, "s.value"),
            Field::Dataset("digest") => ("registry_inputs", "s.digest"),
            Field::Dataset("context") => ("registry_inputs", "s.context"),
            Field::Dataset(_) => ("registry_inputs", "s.name"),
        };
        let true_prompt = Test::Same("true".into());
        let (none, test) = if is_no_prompt(field, test) { (true, &true_prompt) } else { (*test == Test::IsNull, test) };
        sql.push(if none { "NOT EXISTS (" } else { "EXISTS (" });
        sql.push(&format!("SELECT 1 FROM {table} s WHERE "));
        link(sql, field, "s");
        match field {
            Field::Kept(_, key) => sql.push("s.key = ").bind(key.as_str()),
            _ => sql.push(column).push(" IS NOT NULL"),
        };
        if is_logged_metric(self.kind, field) {
            on_any(sql, self.datasets);
        }
        if !matches!(test, Test::IsNull | Test::IsNotNull) {
            sql.push(" AND ");
            self.compare(sql, column, field.holds(), test);
        }
        sql.push(")");
    }

    fn attribute(&self, sql: &mut Statement, attribute: &Attribute, test: &Test) {
        let column = match attribute.holds {
            Holds::Id => format!("CAST({} AS TEXT)", attribute.sql),
            _ => attribute.sql.to_owned(),
        };
        match test {
            Test::IsNull => drop(sql.push(&format!("{column} IS NULL"))),
            Test::IsNotNull => drop(sql.push(&format!("{column} IS NOT NULL"))),
            _ => {
                // NOT turns a comparison that fails for want of a value into one that holds, as for side tables.
                sql.push(&if attribute.nullable { format!("({column} IS NOT NULL AND ") } else { "(".into() });
                self.compare(sql, &column, attribute.holds, test);
                sql.push(")");
            }
        }
    }

    fn compare(&self, sql: &mut Statement, column: &str, holds: Holds, test: &Test) {
        match test {
            Test::Number(op, number) => match holds {
                Holds::Float => drop(sql.push(&format!("{column} {} ", op.sql())).bind(*number)),
                Holds::Time => whole(sql, column, *op, *number, 1000),
                _ => whole(sql, column, *op, *number, 1),
            },
            Test::Same(value) => drop(sql.push(column).push(" = ").bind(value.as_str())),
            Test::Other(value) => drop(sql.push(column).push(" <> ").bind(value.as_str())),
            Test::Like { pattern, folds } => like(sql, self.dialect, column, pattern, *folds),
            Test::OneOf(values) => {
                sql.push(column).push(" IN (").bind_all(values.iter().map(String::as_str)).push(")");
            }
            Test::NoneOf(values) => {
                sql.push(column).push(" NOT IN (").bind_all(values.iter().map(String::as_str)).push(")");
            }
            // Whether there is a value at all is asked where the column's table is known.
            Test::IsNull | Test::IsNotNull => drop(sql.push("1 = 1")),
        }
    }
}

/// Whether the clause asks for what is not a prompt. MLflow's client adds one to every search of models; models do not
/// have the tag, so comparing it would find none of them.
fn is_no_prompt(field: &Field, test: &Test) -> bool {
    let asked = match test {
        Test::Same(value) => value == "false",
        Test::Other(value) => value == "true",
        _ => false,
    };
    asked && matches!(field, Field::Kept(_, key) if key == crate::model::PROMPT_TAG)
}

/// Whether the field is a metric of logged models: those have several values, by run and dataset.
fn is_logged_metric(kind: Kind, field: &Field) -> bool {
    kind == Kind::LoggedModels && matches!(field, Field::Kept(side, _) if side.holds == Holds::Float)
}

fn asks_metric(expr: &Expr) -> bool {
    match expr {
        Expr::All(parts) | Expr::Any(parts) => parts.iter().any(asks_metric),
        Expr::Not(inner) => asks_metric(inner),
        Expr::Clause(field, _) => field.holds() == Holds::Float,
    }
}

/// The columns that tie a row of a side table to its thing.
fn link(sql: &mut Statement, field: &Field, alias: &str) {
    let links = match field {
        Field::Kept(side, _) => side.links,
        _ => &[("run", "r.id")],
    };
    for (column, equals) in links {
        sql.push(&format!("{alias}.{column} = {equals} AND "));
    }
}

fn on_any(sql: &mut Statement, datasets: &[OnDataset]) {
    for (i, dataset) in datasets.iter().enumerate() {
        sql.push(if i == 0 { " AND (" } else { " OR " }).push("(1 = 1");
        on(sql, "s", dataset);
        sql.push(")");
    }
    if !datasets.is_empty() {
        sql.push(")");
    }
}

fn on(sql: &mut Statement, alias: &str, dataset: &OnDataset) {
    if let Some(name) = &dataset.name {
        sql.push(&format!(" AND {alias}.dataset_name = ")).bind(name.as_str());
    }
    if let Some(digest) = &dataset.digest {
        sql.push(&format!(" AND {alias}.dataset_digest = ")).bind(digest.as_str());
    }
}

/// The row of a logged model's metric that counts when models are ordered by it: the newest.
fn newest_value(sql: &mut Statement, key: &str, dataset: &OnDataset) {
    sql.push("FROM registry_logged_model_metrics o WHERE o.model = l.id AND o.key = ").bind(key);
    on(sql, "o", dataset);
    sql.push(" ORDER BY o.at DESC, o.step DESC, o.run DESC, o.dataset_name, o.dataset_digest LIMIT 1");
}

/// Compares an integer column, of which `unit` make one of the caller's, with any number: a time in milliseconds
/// equals every microsecond of that millisecond. As bounds of the bare column, so that an index on it serves.
fn whole(sql: &mut Statement, column: &str, op: Op, number: f64, unit: i128) {
    // Conversions from floats saturate, and so do we.
    let start = |n: i128| {
        let scaled = n.saturating_mul(unit).clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        i64::try_from(scaled).unwrap_or(i64::MAX)
    };
    let (floor, ceil) = (number.floor() as i128, number.ceil() as i128);
    let next = start(floor.saturating_add(1));
    let is_whole = number.fract() == 0.0;
    match op {
        Op::Eq if !is_whole => drop(sql.push("1 = 0")),
        Op::Ne if !is_whole => drop(sql.push("1 = 1")),
        Op::Eq => {
            sql.push(&format!("{column} >= ")).bind(start(floor)).push(&format!(" AND {column} < ")).bind(next);
        }
        Op::Ne => {
            sql.push(&format!("({column} < "))
                .bind(start(floor))
                .push(&format!(" OR {column} >= "))
                .bind(next)
                .push(")");
        }
        Op::Lt => drop(sql.push(&format!("{column} < ")).bind(start(ceil))),
        Op::Le => drop(sql.push(&format!("{column} < ")).bind(next)),
        Op::Gt => drop(sql.push(&format!("{column} >= ")).bind(next)),
        Op::Ge => drop(sql.push(&format!("{column} >= ")).bind(start(ceil))),
    }
}

/// LIKE that heeds case and ILIKE that does not, neither with an escape: the one thing said differently to each
/// database, because SQLite's LIKE folds ASCII and its GLOB does not.
fn like(sql: &mut Statement, dialect: Dialect, column: &str, pattern: &str, folds: bool) {
    match (dialect, folds) {
        (Dialect::Sqlite, true) => drop(sql.push(column).push(" LIKE ").bind(pattern)),
        (Dialect::Sqlite, false) => drop(sql.push(column).push(" GLOB ").bind(glob(pattern))),
        (Dialect::Postgres, true) => drop(sql.push(column).push(" ILIKE ").bind(pattern).push(" ESCAPE ''")),
        (Dialect::Postgres, false) => drop(sql.push(column).push(" LIKE ").bind(pattern).push(" ESCAPE ''")),
    }
}

/// The GLOB that matches what the LIKE matches.
fn glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len());
    for c in pattern.chars() {
        match c {
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            '*' | '?' | '[' => glob.extend(['[', c, ']']),
            c => glob.push(c),
        }
    }
    glob
}

/// The rows behind the one with these sort values.
fn after(sql: &mut Statement, slots: &[Slot], marks: &[Mark]) {
    let (Some((slot, slots)), Some((mark, marks))) = (slots.split_first(), marks.split_first()) else {
        // Equal in all: the row itself.
        sql.push("1 = 0");
        return;
    };
    let sign = if slot.descending { "<" } else { ">" };
    let Some(value) = mark.bind() else {
        // Its rank came before, so all that are equal so far have no value.
        sql.push(&format!("({} IS NULL AND ", slot.name));
        after(sql, slots, marks);
        sql.push(")");
        return;
    };
    // The first comparison says nothing new, but as a plain bound it lets an index start there.
    sql.push(&format!("({} {sign}= ", slot.name)).bind(value.clone());
    sql.push(&format!(" AND ({} {sign} ", slot.name)).bind(value);
    sql.push(" OR ");
    after(sql, slots, marks);
    sql.push("))");
}
