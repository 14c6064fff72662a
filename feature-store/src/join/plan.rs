//! A join made ready: columns found, types settled, before anything is read.

use std::collections::{HashMap, HashSet};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

use super::{
    JoinView, Mode, Sequence, Spine,
    error::JoinError,
    index::NONE,
    keys::KeyType,
    table::Table,
    time::{finer, unit_of},
};

/// A view made ready.
#[derive(Debug)]
pub(super) struct View {
    pub(super) table: Table,
    /// Which of the plan's key sets.
    pub(super) key_set: usize,
    pub(super) keys: Vec<String>,
    /// As the spine has them.
    pub(super) key_types: Vec<KeyType>,
    pub(super) timestamp: String,
    /// The finest unit of its event times.
    pub(super) unit: TimeUnit,
    pub(super) created: Option<(String, TimeUnit)>,
    pub(super) sequence: Option<Sequence>,
    /// Microseconds; 0: no limit.
    pub(super) ttl: i64,
    pub(super) known: bool,
    pub(super) newest: Option<String>,
    /// Source column and type of each feature.
    pub(super) features: Vec<(String, DataType)>,
}

impl View {
    /// The columns that decide which row counts: keys, event time, then created and sequence where there are any.
    pub(super) fn choosing(&self) -> Vec<&str> {
        let created = self.created.as_ref().map(|(column, _)| column.as_str());
        let sequence = self.sequence.as_ref().map(|sequence| sequence.column.as_str());
        let keys = self.keys.iter().map(String::as_str);
        keys.chain([self.timestamp.as_str()]).chain(created).chain(sequence).collect()
    }
}

/// The spine made ready.
#[derive(Debug)]
pub(super) struct SpinePlan {
    pub(super) table: Table,
    pub(super) timestamp: String,
    pub(super) unit: TimeUnit,
    pub(super) fields: Vec<FieldRef>,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) spine: SpinePlan,
    /// Distinct lists of key columns of the spine, with their types.
    pub(super) key_sets: Vec<Vec<(String, KeyType)>>,
    pub(super) views: Vec<View>,
    pub(super) schema: SchemaRef,
}

impl Plan {
    pub(super) fn new(spine: Spine, views: Vec<JoinView>) -> Result<Self, JoinError> {
        let spine = compile_spine(spine)?;
        let mut key_sets: Vec<Vec<(String, KeyType)>> = Vec::new();
        let mut fields = spine.fields.clone();
        let mut compiled = Vec::with_capacity(views.len());
        for view in views {
            let table = Table::new(format!("view `{}`", view.name), view.parts)?;
            let mut key_set = Vec::with_capacity(view.keys.len());
            for key in &view.keys {
                key_set.push((key.spine.clone(), key_type(&spine.table, &table, &key.spine, &key.view)?));
            }
            let key_types = key_set.iter().map(|(_, kind)| *kind).collect();
            let at = key_sets.iter().position(|known| *known == key_set).unwrap_or(key_sets.len());
            if at == key_sets.len() {
                key_sets.push(key_set);
            }
            let unit = time_unit(&table, &view.timestamp, true)?;
            let created = match view.created {
                Some(column) => Some((column.clone(), time_unit(&table, &column, false)?)),
                None if view.mode == Mode::Known => {
                    return Err(JoinError::View { view: view.name, what: "a column `created` for mode `known`" });
                }
                None => None,
            };
            if let Some(sequence) = &view.sequence {
                check_sequence(&table, &sequence.column)?;
            }
            let mut features = Vec::with_capacity(view.features.len());
            for feature in view.features {
                let found = table.types(&feature.column).next();
                let data_type = match feature.data_type.or(found.map(wide)) {
                    Some(data_type) => data_type,
                    None if table.parts().is_empty() => DataType::Null,
                    None => return Err(table.missing(&feature.column)),
                };
                fields.push(Field::new(feature.name, data_type.clone(), true).into());
                features.push((feature.column, data_type));
            }
            if let Some(name) = &view.newest {
                fields.push(Field::new(name, DataType::Timestamp(unit, Some("UTC".into())), true).into());
            }
            compiled.push(View {
                table,
                key_set: at,
                keys: view.keys.into_iter().map(|key| key.view).collect(),
                key_types,
                timestamp: view.timestamp,
                unit,
                created,
                sequence: view.sequence,
                ttl: view.ttl_micros.max(0),
                known: view.mode == Mode::Known,
                newest: view.newest,
                features,
            });
        }
        let mut names = HashSet::new();
        if let Some(twice) = fields.iter().find(|field| !names.insert(field.name())) {
            return Err(JoinError::Twice(twice.name().clone()));
        }
        Ok(Self { spine, key_sets, views: compiled, schema: Schema::new(fields).into() })
    }
}

fn compile_spine(spine: Spine) -> Result<SpinePlan, JoinError> {
    let table = Table::new("the spine".into(), spine.parts)?;
    if table.rows() >= u64::from(NONE) {
        return Err(JoinError::TooManyRows(table.rows()));
    }
    let fields = table.parts().first().map(|part| part.schema().fields().iter().cloned().collect());
    let fields: Vec<FieldRef> = fields.unwrap_or_default();
    for part in table.parts() {
        let schema = part.schema();
        let types: HashMap<&String, &DataType> = schema.fields().iter().map(|f| (f.name(), f.data_type())).collect();
        for field in &fields {
            let found = types.get(field.name()).ok_or_else(|| table.missing(field.name()))?;
            if *found != field.data_type() {
                return Err(wrong_type(&table, field.name(), found, &format!("{} as before", field.data_type())));
            }
        }
    }
    let unit = time_unit(&table, &spine.timestamp, true)?;
    Ok(SpinePlan { table, timestamp: spine.timestamp, unit, fields })
}

/// Dictionaries of several parts are merged, which narrow positions may not count.
fn wide(data_type: DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => DataType::Dictionary(DataType::Int32.into(), values),
        other => other,
    }
}

fn wrong_type(table: &Table, column: &str, found: &DataType, wanted: &str) -> JoinError {
    let (place, column) = (table.place.clone(), column.to_owned());
    JoinError::ColumnType { place, column, found: found.to_string(), wanted: wanted.to_owned() }
}

/// The type that the spine's key is compared as. Every part of the view must have a key that can equal it.
fn key_type(spine: &Table, view: &Table, spine_column: &str, view_column: &str) -> Result<KeyType, JoinError> {
    let types: Vec<DataType> = spine.types(spine_column).collect();
    let Some(data_type) = types.first() else {
        if spine.parts().is_empty() {
            return Ok(KeyType::Bool);
        }
        return Err(spine.missing(spine_column));
    };
    let usable = "a number, text, bool, date or timestamp";
    let key = KeyType::of(data_type).ok_or_else(|| wrong_type(spine, spine_column, data_type, usable))?;
    let mut found = view.types(view_column).peekable();
    if found.peek().is_none() && !view.parts().is_empty() {
        return Err(view.missing(view_column));
    }
    for other in found {
        if !KeyType::of(&other).is_some_and(|other| key.meets(other)) {
            return Err(wrong_type(view, view_column, &other, &format!("what the spine has ({data_type})")));
        }
    }
    Ok(key)
}

/// The finest unit of a column that every part has (`required`) or may have.
fn time_unit(table: &Table, column: &str, required: bool) -> Result<TimeUnit, JoinError> {
    let mut finest = None;
    let mut found = 0;
    for data_type in table.types(column) {
        let unit = unit_of(&data_type).ok_or_else(|| wrong_type(table, column, &data_type, "a timestamp"))?;
        finest = Some(finest.map_or(unit, |known| finer(known, unit)));
        found += 1;
    }
    if (required && found < table.parts().len()) || (found == 0 && !table.parts().is_empty()) {
        return Err(table.missing(column));
    }
    Ok(finest.unwrap_or(TimeUnit::Microsecond))
}

fn check_sequence(table: &Table, column: &str) -> Result<(), JoinError> {
    let mut found = 0;
    for data_type in table.types(column) {
        if !data_type.is_integer() {
            return Err(wrong_type(table, column, &data_type, "a whole number"));
        }
        found += 1;
    }
    if found == table.parts().len() { Ok(()) } else { Err(table.missing(column)) }
}
