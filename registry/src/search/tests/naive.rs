//! SQL against a plain reading of the rows: the same runs, in the same order, on pages of any size.

use std::cmp::Ordering;

use domain::state::RunState;

use super::world::{ARun, Chance, KEYS, NUMBERS, TEXTS, World, a_run};
use crate::search::{filter::Test, lex::Op};

/// A filter as a tree of our own, so that the parser is part of what is tested.
enum Tree {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Leaf(Key, Test),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Key {
    Metric(&'static str),
    Param(&'static str),
    Tag(&'static str),
    Dataset(&'static str),
    Text(&'static str),
    Time(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
}

impl Key {
    fn random(chance: &mut Chance) -> Self {
        match chance.below(6) {
            0 => Self::Metric(chance.pick(&KEYS)),
            1 => Self::Param(chance.pick(&KEYS)),
            2 => Self::Tag(chance.pick(&KEYS)),
            3 => Self::Dataset(chance.pick(&["name", "digest", "context"])),
            4 => Self::Text(chance.pick(&["run_id", "run_name", "status", "user_id"])),
            _ => Self::Time(chance.pick(&["start_time", "end_time"])),
        }
    }

    fn text(self, chance: &mut Chance) -> String {
        let quoted = |chance: &mut Chance, key: &str| match chance.below(2) {
            0 => format!("`{}`", key.replace('`', "``")),
            _ => format!("\"{}\"", key.replace('"', "\"\"")),
        };
        match self {
            Self::Metric(key) => format!("{}.{}", chance.pick(&["metric", "metrics"]), quoted(chance, key)),
            Self::Param(key) => format!("{}.{}", chance.pick(&["param", "parameters"]), quoted(chance, key)),
            Self::Tag(key) => format!("{}.{}", chance.pick(&["tag", "tags"]), quoted(chance, key)),
            Self::Dataset(key) => format!("dataset.{key}"),
            Self::Text(key) | Self::Time(key) => format!("{}{key}", chance.pick(&["", "attr.", "attributes."])),
        }
    }

    fn values(self, run: &ARun) -> Vec<Value> {
        let text = |text: &String| Value::Text(text.clone());
        let time = |micros: i64| Value::Number(micros.div_euclid(1000) as f64);
        match self {
            Self::Metric(key) => run.metrics.get(key).map(|x| Value::Number(*x)).into_iter().collect(),
            Self::Param(key) => run.params.get(key).map(text).into_iter().collect(),
            Self::Tag(key) => run.tags.get(key).map(text).into_iter().collect(),
            Self::Dataset("name") => run.datasets.iter().map(|(name, ..)| text(name)).collect(),
            Self::Dataset("digest") => run.datasets.iter().map(|(_, digest, _)| text(digest)).collect(),
            Self::Dataset(_) => run.datasets.iter().filter_map(|(.., context)| context.as_ref().map(text)).collect(),
            Self::Text("run_id") => vec![text(&run.id)],
            Self::Text("run_name") => vec![text(&run.name)],
            Self::Text("status") => vec![Value::Text(status(run.state).into())],
            Self::Text(_) => vec![text(&run.user)],
            Self::Time("start_time") => vec![time(run.started)],
            Self::Time(_) => run.ended.map(time).into_iter().collect(),
        }
    }
}

fn status(state: RunState) -> &'static str {
    match state {
        RunState::Scheduled => "SCHEDULED",
        RunState::Running => "RUNNING",
        RunState::Finished => "FINISHED",
        RunState::Failed => "FAILED",
        RunState::Cancelled => "KILLED",
    }
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn like(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|n| like(rest, &text[n..])),
        Some((c, rest)) => text.split_first().is_some_and(|(t, left)| (*c == '_' || c == t) && like(rest, left)),
    }
}

fn passes(test: &Test, value: &Value) -> bool {
    let chars = |text: &str, folds: bool| {
        let text = if folds { text.to_ascii_lowercase() } else { text.to_owned() };
        text.chars().collect::<Vec<_>>()
    };
    match (test, value) {
        (Test::Number(op, wanted), Value::Number(x)) => match op {
            // NaN equals nothing and differs from nothing.
            Op::Ne => x != wanted && !x.is_nan(),
            Op::Eq => x == wanted,
            Op::Lt => x < wanted,
            Op::Le => x <= wanted,
            Op::Gt => x > wanted,
            Op::Ge => x >= wanted,
        },
        (Test::Same(wanted), Value::Text(text)) => text == wanted,
        (Test::Other(wanted), Value::Text(text)) => text != wanted,
        (Test::Like { pattern, folds }, Value::Text(text)) => like(&chars(pattern, *folds), &chars(text, *folds)),
        (Test::OneOf(list), Value::Text(text)) => list.contains(text),
        (Test::NoneOf(list), Value::Text(text)) => !list.contains(text),
        (Test::IsNotNull, _) => true,
        _ => false,
    }
}

impl Tree {
    fn random(chance: &mut Chance, depth: usize) -> Self {
        let several = |chance: &mut Chance| (0..=chance.below(3)).map(|_| Self::random(chance, depth - 1)).collect();
        match if depth == 0 { 9 } else { chance.below(8) } {
            0 | 1 => Self::And(several(chance)),
            2 => Self::Or(several(chance)),
            3 => Self::Not(Box::new(Self::random(chance, depth - 1))),
            _ => Self::leaf(chance),
        }
    }

    fn leaf(chance: &mut Chance) -> Self {
        let key = Key::random(chance);
        if chance.one_in(8) {
            return Self::Leaf(key, if chance.one_in(2) { Test::IsNull } else { Test::IsNotNull });
        }
        if matches!(key, Key::Metric(_) | Key::Time(_)) {
            let op = chance.pick(&[Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge]);
            let finite: Vec<f64> = NUMBERS.into_iter().filter(|x| x.is_finite()).collect();
            let number = match key {
                Key::Metric(_) => chance.pick(&finite),
                _ => chance.pick(&[-1.0, 0.0, 1.0, 1.5, 2.0, 1.7e12, 1.7e12 + 0.5, 1e300]),
            };
            return Self::Leaf(key, Test::Number(op, number));
        }
        let texts: Vec<&str> = match key {
            Key::Text("status") => ["RUNNING", "KILLED", "running", "FAILED"].to_vec(),
            Key::Text("user_id") => ["ann", "Bob"].to_vec(),
            Key::Dataset("digest") => ["d0", "d1"].to_vec(),
            _ => TEXTS.to_vec(),
        };
        let text = chance.pick(&texts).to_owned();
        let list = |chance: &mut Chance| (0..=chance.below(3)).map(|_| chance.pick(&texts).to_owned()).collect();
        let test = match chance.below(6) {
            0 => Test::Same(text),
            1 => Test::Other(text),
            2 => Test::OneOf(list(chance)),
            3 => Test::NoneOf(list(chance)),
            _ => {
                let pattern =
                    chance.pick(&["%", "x%", "%Y%", "_", "X_", "%[c]", "a*%", "ä%", "%50%", "a?b", "%x%y%", ""]);
                let pattern = if chance.one_in(3) { text } else { pattern.to_owned() };
                Test::Like { pattern, folds: chance.one_in(2) }
            }
        };
        Self::Leaf(key, test)
    }

    fn text(&self, chance: &mut Chance) -> String {
        let mut join = |parts: &[Self], word: &str| {
            let parts: Vec<_> = parts.iter().map(|part| part.text(chance)).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Self::And(parts) => join(parts, " AND "),
            Self::Or(parts) => join(parts, " or "),
            Self::Not(inner) => format!("NOT {}", inner.text(chance)),
            Self::Leaf(key, test) => {
                let list = |list: &[String]| list.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", ");
                let test = match test {
                    Test::Number(Op::Ne, x) => format!("!= {x:e}"),
                    Test::Number(op, x) => format!("{} {x:e}", op.sql()),
                    Test::Same(text) => format!("= {}", quote(text)),
                    Test::Other(text) => format!("!= {}", quote(text)),
                    Test::Like { pattern, folds: false } => format!("like {}", quote(pattern)),
                    Test::Like { pattern, folds: true } => format!("ILIKE {}", quote(pattern)),
                    Test::OneOf(texts) => format!("IN ({})", list(texts)),
                    Test::NoneOf(texts) => format!("not in ({})", list(texts)),
                    Test::IsNull => "is null".into(),
                    Test::IsNotNull => "IS NOT NULL".into(),
                };
                format!("{} {test}", key.text(chance))
            }
        }
    }

    fn holds(&self, run: &ARun) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.holds(run)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(run)),
            Self::Not(inner) => !inner.holds(run),
            Self::Leaf(key, Test::IsNull) => key.values(run).is_empty(),
            Self::Leaf(key, test) => key.values(run).iter().any(|value| passes(test, value)),
        }
    }
}

/// Numbers and texts, then NaN, then what is missing; only the first go the other way when descending.
fn by_value(a: Option<Value>, b: Option<Value>, descending: bool) -> Ordering {
    let rank = |value: &Option<Value>| match value {
        None => 2,
        Some(Value::Number(x)) if x.is_nan() => 1,
        Some(_) => 0,
    };
    let ranks = rank(&a).cmp(&rank(&b));
    let values = match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (Some(Value::Text(a)), Some(Value::Text(b))) => a.as_bytes().cmp(b.as_bytes()),
        _ => Ordering::Equal,
    };
    ranks.then(if descending { values.reverse() } else { values })
}

fn sort_value(key: Key, run: &ARun) -> Option<Value> {
    match key {
        // Rows are told apart by the microsecond.
        Key::Time("start_time") => Some(Value::Number(run.started as f64)),
        Key::Time(_) => run.ended.map(|micros| Value::Number(micros as f64)),
        key => key.values(run).into_iter().next(),
    }
}

fn expected(runs: &[ARun], tree: Option<&Tree>, orders: &[(Key, bool)]) -> Vec<String> {
    let in_scope = |run: &&ARun| run.experiment == 0 && !run.deleted && tree.is_none_or(|tree| tree.holds(run));
    let mut found: Vec<&ARun> = runs.iter().filter(in_scope).collect();
    found.sort_by(|a, b| {
        let chosen = orders.iter().map(|(key, down)| by_value(sort_value(*key, a), sort_value(*key, b), *down));
        let chosen = chosen.fold(Ordering::Equal, Ordering::then);
        chosen.then(b.started.cmp(&a.started)).then(a.id.cmp(&b.id))
    });
    found.into_iter().map(|run| run.id.clone()).collect()
}

#[tokio::test]
async fn pages_hold_what_a_plain_reading_finds() {
    let mut found = 0;
    for seed in 0..12 {
        let mut chance = Chance(seed);
        let world = World::new().await;
        let runs: Vec<ARun> = (0..40 + chance.below(30)).map(|n| a_run(&mut chance, n)).collect();
        world.insert(&runs).await;
        for round in 0..60 {
            let tree = (!chance.one_in(6)).then(|| Tree::random(&mut chance, 3));
            let filter = tree.as_ref().map(|tree| tree.text(&mut chance)).unwrap_or_default();
            let mut orders: Vec<(Key, bool)> = (0..chance.below(4))
                .map(|_| (Key::random(&mut chance), chance.one_in(2)))
                .filter(|(key, _)| !matches!(key, Key::Dataset(_)))
                .collect();
            orders.dedup_by_key(|(key, _)| *key);
            let order_by: Vec<String> = orders
                .iter()
                .map(|(key, down)| format!("{}{}", key.text(&mut chance), if *down { " DESC" } else { "" }))
                .collect();
            let wanted = expected(&runs, tree.as_ref(), &orders);
            let limit = 1 + chance.below(9);
            let told = format!("seed {seed}, round {round}, {limit} a page: {filter} ORDER BY {order_by:?}");
            let pages =
                world.pages(&filter, &order_by, limit).await.unwrap_or_else(|error| panic!("{error} at {told}"));
            assert_eq!(pages.concat(), wanted, "{told}");
            assert_eq!(pages.len(), wanted.len().div_ceil(limit).max(1), "no empty page behind a full one: {told}");
            found += wanted.len();
        }
    }
    assert!(found > 5_000, "the filters find something: {found}");
}
