//! The calls of Feast's remote offline store: a JSON command in the descriptor, a table with it, a table back.

use arrow::array::RecordBatch;
use domain::{
    SourceName, ValueType, ViewName,
    definition::{FeatureView, Source},
};
use feature_store::{FeatureStore, Stretch};
use serde::Deserialize;

use super::{join, table};
use crate::{
    app::App,
    counts,
    feast::{Class, Refusal, columns, push, reference},
};

/// A call, by the name of its API. Members that carry nothing for us are taken and not looked at.
#[derive(Debug, Deserialize)]
#[serde(tag = "api", rename_all = "snake_case")]
pub enum Command {
    GetHistoricalFeatures(Historical),
    PullLatestFromTableOrQuery(Pull),
    PullAllFromTableOrQuery(Pull),
    GetTableColumnNamesAndTypesFromDataSource { data_source_proto: String },
    ValidateDataSource { data_source_proto: String },
    OfflineWriteBatch { feature_view_names: Vec<String> },
    WriteLoggedFeatures {},
    Persist {},
}

#[derive(Debug, Deserialize)]
pub struct Historical {
    /// `view:feature`; the view may be called by its alias.
    feature_refs: Vec<String>,
    #[serde(default)]
    feature_view_names: Vec<String>,
    /// Beside each of the names: what it is called in `feature_refs`.
    #[serde(default)]
    name_aliases: Vec<Option<String>>,
    #[serde(default)]
    project: Option<String>,
    #[serde(default)]
    full_feature_names: bool,
    #[serde(default)]
    entity_df_sql: Option<String>,
    #[serde(default)]
    start_date: Option<String>,
    #[serde(default)]
    end_date: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Pull {
    data_source_name: String,
    join_key_columns: Vec<String>,
    feature_name_columns: Vec<String>,
    timestamp_field: String,
    #[serde(default)]
    created_timestamp_column: Option<String>,
    #[serde(default)]
    start_date: Option<String>,
    #[serde(default)]
    end_date: Option<String>,
}

impl Command {
    /// Whether the table that comes with it changes something.
    #[must_use]
    pub const fn writes(&self) -> bool {
        matches!(self, Self::OfflineWriteBatch { .. } | Self::WriteLoggedFeatures {} | Self::Persist {})
    }

    /// Whether it is done when the table has arrived, with nothing to fetch.
    #[must_use]
    pub const fn is_done_at_once(&self) -> bool {
        self.writes() || matches!(self, Self::ValidateDataSource { .. })
    }

    /// Does what is done at once.
    ///
    /// # Errors
    /// What is wrong with the command or the table.
    pub async fn put(&self, app: &App, sent: &RecordBatch) -> Result<(), Refusal> {
        match self {
            Self::OfflineWriteBatch { feature_view_names } => match feature_view_names.as_slice() {
                [view] => write(app, view, sent).await,
                _ => Err(unfit("offline_write_batch takes exactly one feature view")),
            },
            Self::ValidateDataSource { data_source_proto } => described(&app.features, data_source_proto).map(drop),
            Self::WriteLoggedFeatures {} => {
                Err(unfit("logged features are not taken here: ingest them into a source of their own"))
            }
            Self::Persist {} => {
                Err(unfit("saved datasets are not kept here: fetch the table and keep it, or build a dataset"))
            }
            _ => Err(unfit("this api answers with a table: exchange it, or fetch its ticket")),
        }
    }

    /// The table it answers.
    ///
    /// # Errors
    /// What is wrong with the command or the table.
    pub async fn get(&self, app: &App, sent: &RecordBatch) -> Result<RecordBatch, Refusal> {
        match self {
            Self::GetHistoricalFeatures(asked) => asked.join(app, sent).await,
            Self::PullLatestFromTableOrQuery(pull) => pull.read(&app.features, true).await,
            Self::PullAllFromTableOrQuery(pull) => pull.read(&app.features, false).await,
            Self::GetTableColumnNamesAndTypesFromDataSource { data_source_proto } => {
                columns_of(&described(&app.features, data_source_proto)?)
            }
            _ => Err(unfit("this api answers with no table: send it with DoPut")),
        }
    }
}

fn unfit(message: impl Into<String>) -> Refusal {
    Refusal::unfit(Class::General, message)
}

impl Historical {
    async fn join(&self, app: &App, spine: &RecordBatch) -> Result<RecordBatch, Refusal> {
        if let Some(project) = self.project.as_ref().filter(|project| **project != app.project.as_str()) {
            return Err(crate::feast::other_project(project, &app.project));
        }
        if self.entity_df_sql.is_some() {
            return Err(unfit("an entity_df written in SQL is not run here: send a table"));
        }
        if self.start_date.is_some() || self.end_date.is_some() {
            return Err(unfit("start_date and end_date stand for no entities here: send a table with keys and times"));
        }
        let real: Vec<String> = self.feature_refs.iter().map(|text| self.unalias(text)).collect();
        // Names of views that were aliased are told apart by their aliases, so only whole names must differ here.
        let selection = reference::choose(&app.features, &real, true).await?;
        let chosen: Vec<_> = selection.features().collect();
        let mut names = Vec::with_capacity(chosen.len());
        for one in &chosen {
            let shown = self.alias(one.view.as_str()).unwrap_or(one.view.as_str());
            let name =
                if self.full_feature_names { format!("{shown}__{}", one.feature) } else { one.feature.to_string() };
            if names.contains(&name) {
                let message = format!("two features would be called `{name}`: set full_feature_names to true");
                return Err(Refusal::unfit(Class::NameCollision, message));
            }
            names.push(name);
        }
        join::join(&app.features, &selection, spine, &names).await
    }

    fn alias(&self, view: &str) -> Option<&str> {
        let mut pairs = self.feature_view_names.iter().zip(&self.name_aliases);
        pairs.find(|(name, _)| *name == view).and_then(|(_, alias)| alias.as_deref())
    }

    fn unalias(&self, reference: &str) -> String {
        let Some((view, feature)) = reference.split_once(':') else { return reference.to_owned() };
        let mut pairs = self.feature_view_names.iter().zip(&self.name_aliases);
        let real = pairs.find(|(_, alias)| alias.as_deref() == Some(view)).map(|(name, _)| name.as_str());
        format!("{}:{feature}", real.unwrap_or(view))
    }
}

impl Pull {
    async fn read(&self, features: &FeatureStore, latest: bool) -> Result<RecordBatch, Refusal> {
        let source = source(features, &self.data_source_name)?;
        let time = |name: &str, text: Option<&String>| {
            text.map(|text| columns::parse(text)).transpose().map_err(|why| unfit(format!("{name}: {why}")))
        };
        let stretch = Stretch {
            from: time("start_date", self.start_date.as_ref())?,
            to: time("end_date", self.end_date.as_ref())?,
        };
        let mut wanted: Vec<String> = Vec::new();
        let times = std::iter::once(&self.timestamp_field).chain(&self.created_timestamp_column);
        for name in self.join_key_columns.iter().chain(&self.feature_name_columns).chain(times) {
            if !wanted.contains(name) {
                wanted.push(name.clone());
            }
        }
        let rows = if latest {
            features.latest_rows(&source.name, &self.join_key_columns, &wanted, stretch).await?
        } else {
            features.rows(&source.name, &wanted, stretch).await?
        };
        super::batch(&rows)
    }
}

/// The source that a data source of Feast's stands for: a batch source has the source's own name.
fn source(features: &FeatureStore, name: &str) -> Result<Source, Refusal> {
    push::source(features, name)
        .map_err(|_| Refusal::not_found(Class::SourceNotFound, format!("data source `{name}` does not exist")))
}

/// The source that a data source, shown as JSON, names.
fn described(features: &FeatureStore, shown: &str) -> Result<Source, Refusal> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let named: Named = serde_json::from_str(shown)
        .map_err(|e| unfit(format!("data_source_proto is no JSON object with a `name`: {e}")))?;
    source(features, &named.name)
}

/// Names and types (as pyarrow calls them) of a source's columns.
fn columns_of(source: &Source) -> Result<RecordBatch, Refusal> {
    let texts = |of: &dyn Fn(&domain::definition::SourceColumn) -> String| {
        domain::Column::Text(source.columns.iter().map(|column| Some(of(column).into())).collect())
    };
    let frame = domain::Frame::new([
        ("name".into(), texts(&|column| column.name.to_string())),
        ("type".into(), texts(&|column| type_name(column.kind))),
    ]);
    super::batch(&frame.map_err(feature_store::FeatureError::from)?)
}

/// A type as pyarrow calls it.
fn type_name(kind: ValueType) -> String {
    match kind {
        ValueType::Bool => "bool".to_owned(),
        ValueType::Int => "int64".to_owned(),
        ValueType::Float => "double".to_owned(),
        ValueType::Text => "string".to_owned(),
        ValueType::Timestamp => "timestamp[us, tz=UTC]".to_owned(),
        ValueType::List(list) => format!("list<item: {}>", type_name(list.element.kind())),
    }
}

/// Takes the rows of a view.
async fn write(app: &App, view: &str, sent: &RecordBatch) -> Result<(), Refusal> {
    let name = view.parse::<ViewName>().map_err(|e| Refusal::not_found(Class::ViewNotFound, e.to_string()))?;
    let definition: FeatureView = app.features.view(&name)?;
    let source: Source = app.features.source(&definition.source)?;
    let kind = |member: &str| {
        let feature = definition.features.iter().find(|feature| feature.name.as_str() == member);
        let column = feature.map_or(member, |feature| feature.column.as_ref().unwrap_or(&feature.name).as_str());
        source.columns.iter().find(|known| known.name.as_str() == column).map(|known| known.kind)
    };
    let report = app.features.write_view(&name, table::json_rows(sent, kind)?).await?;
    let source: &SourceName = &definition.source;
    counts::ingested(&app.metrics, source, &report);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_by_its_api_and_strange_members_are_passed_over() {
        let read = |text: &str| serde_json::from_str::<Command>(text).map_err(|e| e.to_string());
        let command = read(
            r#"{"command_id": "x", "api": "get_historical_features", "feature_view_names": ["pump"], "name_aliases": ["p"],
                "feature_refs": ["p:temp"], "project": "default", "full_feature_names": true}"#,
        );
        let Ok(Command::GetHistoricalFeatures(asked)) = command else { panic!("{command:?}") };
        assert_eq!((asked.unalias("p:temp"), asked.alias("pump")), ("pump:temp".to_owned(), Some("p")));
        assert!(read(r#"{"api": "drop_table"}"#).unwrap_err().contains("unknown variant"));
        assert!(read(r#"{"command_id": "x"}"#).unwrap_err().contains("api"));
    }

    #[test]
    fn what_changes_something_is_known_before_it_is_done() {
        let read = |text: &str| serde_json::from_str::<Command>(text).unwrap();
        assert!(read(r#"{"api": "offline_write_batch", "feature_view_names": ["pump"]}"#).writes());
        assert!(read(r#"{"api": "persist"}"#).writes());
        assert!(!read(r#"{"api": "validate_data_source", "data_source_proto": "{}"}"#).writes());
    }
}
