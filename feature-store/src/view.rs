//! A feature view made ready: where its columns stand in the source, what it keeps online, what it answers.

use std::sync::Arc;

use domain::{
    ColumnName, Digest, Frame, SourceName, Timestamp, Value, ValueType, ViewName,
    definition::{Entity, FeatureView, Source},
};

use crate::{
    error::FeatureError,
    exact::Exact,
    key::{self, Layout},
    window::{TileRule, Tiles, Way, WindowSpan},
};

/// A column of the source that the view keeps online.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) name: ColumnName,
    pub(crate) kind: ValueType,
    /// Position in the source's columns.
    pub(crate) at: usize,
    /// Whether squares are summed as well.
    pub(crate) squares: bool,
}

/// An entity key, which stands in the source under the same name.
#[derive(Debug, Clone)]
pub(crate) struct KeyColumn {
    pub(crate) name: ColumnName,
    /// Position in the source's columns.
    pub(crate) at: usize,
}

/// How an output is made from what is kept.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// The kept column of the newest row; `default` where no row is in time.
    Newest { kept: usize, default: Value },
    /// An aggregate of the kept column, as a difference of running totals at the window's ends.
    Window { kept: usize, function: Exact, window: WindowSpan },
    /// An aggregate merged from tiles.
    Tile(TileRule),
}

#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) name: ColumnName,
    pub(crate) kind: ValueType,
    pub(crate) rule: Rule,
}

impl Output {
    /// The window of totals, where there is one.
    pub(crate) const fn window(&self) -> Option<WindowSpan> {
        match self.rule {
            Rule::Window { window, .. } => Some(window),
            Rule::Newest { .. } | Rule::Tile(_) => None,
        }
    }

    /// How it is read from tiles, where it is.
    pub(crate) const fn tile(&self) -> Option<TileRule> {
        match self.rule {
            Rule::Tile(rule) => Some(rule),
            Rule::Newest { .. } | Rule::Window { .. } => None,
        }
    }
}

/// A compiled view.
#[derive(Debug, Clone)]
pub(crate) struct ViewPlan {
    pub(crate) name: ViewName,
    pub(crate) source: SourceName,
    pub(crate) keys: Vec<KeyColumn>,
    pub(crate) kept: Vec<Kept>,
    pub(crate) outputs: Vec<Output>,
    /// Rows older than this many microseconds are not served; `None`: no limit.
    pub(crate) ttl: Option<i64>,
    pub(crate) layout: Layout,
    /// What is kept for functions that totals do not give; in the layout's own place for tiles.
    pub(crate) tiles: Tiles,
}

impl ViewPlan {
    /// Compiles a view that has been checked.
    pub(crate) fn compile(view: &FeatureView, source: &Source, entities: &[&Entity]) -> Result<Self, FeatureError> {
        let position = |column: &ColumnName| {
            source.columns.iter().position(|c| c.name == *column).ok_or_else(|| FeatureError::Definition {
                kind: "FeatureView",
                name: view.name.to_string(),
                field: "source".into(),
                reason: format!("source `{}` has no column `{column}`", source.name),
                near: None,
            })
        };
        let keys = entities
            .iter()
            .flat_map(|entity| entity.columns())
            .map(|(name, _)| Ok(KeyColumn { name: name.clone(), at: position(name)? }))
            .collect::<Result<Vec<_>, FeatureError>>()?;
        let mut kept: Vec<Kept> = Vec::new();
        let mut outputs = Vec::new();
        let mut keep = |column: &ColumnName, squares: bool| -> Result<usize, FeatureError> {
            let at = position(column)?;
            let found = kept.iter().position(|k| k.at == at).unwrap_or(kept.len());
            if found == kept.len() {
                kept.push(Kept { name: column.clone(), kind: source.columns[at].kind, at, squares: false });
            }
            kept[found].squares |= squares;
            Ok(found)
        };
        for feature in &view.features {
            let column = feature.column.as_ref().unwrap_or(&feature.name);
            let index = keep(column, false)?;
            let kind = source.columns[position(column)?].kind;
            let default = match &feature.default {
                Some(json) => Value::from_json(json, kind).map_err(|error| FeatureError::Definition {
                    kind: "FeatureView",
                    name: view.name.to_string(),
                    field: format!("features.{}.default", feature.name),
                    reason: error.to_string(),
                    near: None,
                })?,
                None => Value::Null,
            };
            outputs.push(Output { name: feature.name.clone(), kind, rule: Rule::Newest { kept: index, default } });
        }
        let mut tiles = Tiles::default();
        for aggregation in &view.aggregations {
            let at = position(&aggregation.column)?;
            let rule = match Way::of(aggregation) {
                Way::Totals(function) => {
                    let kept = keep(&aggregation.column, function == Exact::Std)?;
                    Rule::Window { kept, function, window: WindowSpan::of(aggregation) }
                }
                Way::Tiles(fold) => Rule::Tile(tiles.place(aggregation, fold, at)),
            };
            let kind = aggregation.function.result(source.columns[at].kind);
            outputs.push(Output { name: aggregation.name.clone(), kind, rule });
        }
        let tag = if view.aggregations.is_empty() { key::PLAIN } else { key::TOTALS };
        let layout = layout(tag, view, source, &keys, &kept, &tiles);
        let ttl = view.ttl.map(|span| span.micros()).filter(|micros| *micros > 0);
        Ok(Self { name: view.name.clone(), source: source.name.clone(), keys, kept, outputs, ttl, layout, tiles })
    }

    /// Whether the view aggregates over windows.
    pub(crate) const fn is_windowed(&self) -> bool {
        self.layout.tag == key::TOTALS
    }

    /// Positions in the source of all columns that the view is made of, some perhaps twice.
    pub(crate) fn needed(&self) -> impl Iterator<Item = usize> + '_ {
        let keys = self.keys.iter().map(|key| key.at);
        let kept = self.kept.iter().map(|kept| kept.at);
        keys.chain(kept).chain(self.tiles.0.iter().flat_map(|chain| chain.columns.iter().copied()))
    }

    /// Beginning of all online keys of the entity that the source row is about; `None` when a key is null.
    pub(crate) fn entity_of(&self, row: &[Value]) -> Option<Vec<u8>> {
        let mut out = self.layout.prefix();
        self.keys.iter().all(|column| key::push_entity(&mut out, &row[column.at])).then_some(out)
    }

    /// Greatest lawful magnitude per aggregated column.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        use crate::exact::{SQUARE_LIMIT, SUM_LIMIT};
        let windowed = self.is_windowed();
        self.kept
            .iter()
            .filter(move |_| windowed)
            .map(|kept| (kept.at, if kept.squares { SQUARE_LIMIT } else { SUM_LIMIT }))
    }

    /// Whether a row of this age may still be served at `at`.
    pub(crate) fn in_time(&self, row: Timestamp, at: Timestamp) -> bool {
        self.ttl.is_none_or(|ttl| row.micros() >= at.micros().saturating_sub(ttl))
    }

    /// The key columns of a frame, in this view's order.
    pub(crate) fn key_columns<'a>(&self, frame: &'a Frame) -> Result<Vec<&'a domain::Column>, FeatureError> {
        self.keys.iter().map(|key| Ok(frame.require(key.name.as_str())?)).collect()
    }
}

fn layout(tag: u8, view: &FeatureView, source: &Source, keys: &[KeyColumn], kept: &[Kept], tiles: &Tiles) -> Layout {
    let mut parts: Vec<String> = vec![view.name.to_string(), source.name.to_string()];
    for key in keys {
        parts.push(format!("key {} {}", key.name, source.columns[key.at].kind));
    }
    for kept in kept {
        parts.push(format!("column {} {} {}", kept.name, kept.kind, kept.squares));
    }
    parts.extend(tiles.parts(|at| format!("{} {}", source.columns[at].name, source.columns[at].kind)));
    Layout::new(tag, &Digest::of_parts(parts.iter().map(String::as_bytes)))
}

/// A source made ready: where its special columns stand.
#[derive(Debug, Clone)]
pub(crate) struct SourcePlan {
    pub(crate) definition: Source,
    pub(crate) timestamp: usize,
    pub(crate) created: Option<usize>,
    /// Column names, to be shared.
    pub(crate) names: Vec<Arc<str>>,
    /// Columns whose values tell rows apart, the event time among them; in order of their names.
    pub(crate) identity: Vec<usize>,
    /// All columns in order of their names.
    pub(crate) by_name: Vec<usize>,
    /// Views over this source.
    pub(crate) views: Vec<Arc<ViewPlan>>,
}

impl SourcePlan {
    /// Compiles a source that has been checked.
    pub(crate) fn compile(source: &Source, views: Vec<Arc<ViewPlan>>) -> Result<Self, FeatureError> {
        let position = |field: &str, column: &ColumnName| {
            source.columns.iter().position(|c| c.name == *column).ok_or_else(|| FeatureError::Definition {
                kind: "Source",
                name: source.name.to_string(),
                field: field.into(),
                reason: format!("`{column}` is not among the columns"),
                near: None,
            })
        };
        let timestamp = position("timestamp", &source.timestamp)?;
        let mut by_name: Vec<usize> = (0..source.columns.len()).collect();
        by_name.sort_by_key(|&at| &source.columns[at].name);
        let mut identity = by_name.clone();
        if !source.row_id.is_empty() {
            identity.retain(|&at| at == timestamp || source.row_id.contains(&source.columns[at].name));
        }
        Ok(Self {
            timestamp,
            names: source.columns.iter().map(|column| column.name.as_str().into()).collect(),
            by_name,
            created: source.created.as_ref().map(|column| position("created", column)).transpose()?,
            identity,
            views,
            definition: source.clone(),
        })
    }

    /// Event time of a row that was accepted.
    pub(crate) fn event_time(&self, row: &[Value]) -> Timestamp {
        match row[self.timestamp] {
            Value::Timestamp(at) => at,
            // Rows without an event time are quarantined before they get here.
            _ => Timestamp::MIN,
        }
    }

    pub(crate) fn created(&self, row: &[Value]) -> Option<Timestamp> {
        match self.created.map(|column| &row[column]) {
            Some(Value::Timestamp(at)) => Some(*at),
            _ => None,
        }
    }
}
