//! A source's table as a view of a session.

use std::{collections::BTreeSet, sync::Arc};

use domain::Timestamp;
use spark::{Relation, Session};

use super::{AsOf, sql};
use crate::{
    error::{Doing as _, FeatureError},
    table::{Mark, REPLACES, ROW, SourceTable},
    view::{SourcePlan, ViewPlan},
};

/// A source that a session can be asked about.
pub(super) struct Remoted {
    view: String,
    plan: Arc<SourcePlan>,
    below: i64,
    corrected: bool,
}

/// Makes the files that have rows up to `to` a view of the session: of the state at the mark, or as they stand.
pub(super) async fn open(
    session: &mut Session,
    view: String,
    plan: Arc<SourcePlan>,
    table: &SourceTable,
    columns: &BTreeSet<usize>,
    to: Timestamp,
    mark: Option<&Mark>,
) -> Result<Remoted, FeatureError> {
    let (below, snapshot) = table.sealed(mark).await?;
    let files = match &snapshot {
        Some(snapshot) => snapshot.files_within((i64::MIN, to.micros())).await.doing("list a table's files")?,
        None => Vec::new(),
    };
    let corrected = files.iter().any(|file| file.corrections != Some(0));
    let mut wanted = columns.clone();
    wanted.insert(plan.timestamp);
    wanted.extend(plan.created);
    let mut fields: Vec<(&str, String)> =
        wanted.iter().map(|&at| (&*plan.names[at], sql::kind(plan.definition.columns[at].kind))).collect();
    fields.extend([(ROW, "BIGINT".to_owned()), (REPLACES, "BIGINT".to_owned())]);
    let relation = match snapshot {
        Some(snapshot) if !files.is_empty() => Relation::Parquet {
            paths: files.iter().map(|file| snapshot.address(file)).collect(),
            schema: fields
                .iter()
                .map(|(name, kind)| format!("{} {kind}", sql::quoted(name)))
                .collect::<Vec<_>>()
                .join(", "),
        },
        _ => {
            let none = fields.iter().map(|(name, kind)| format!("CAST(NULL AS {kind}) AS {}", sql::quoted(name)));
            Relation::Sql(format!("SELECT {} WHERE FALSE", none.collect::<Vec<_>>().join(", ")))
        }
    };
    session.view(&view, relation).await?;
    Ok(Remoted { view, plan, below, corrected })
}

impl Remoted {
    /// A column by its position in the source.
    pub(super) fn column(&self, at: usize) -> String {
        sql::quoted(&self.plan.names[at])
    }

    /// The rows of a view, with `features` to come out.
    pub(super) fn as_of(&self, view: &ViewPlan, features: Vec<String>) -> AsOf {
        let micros = |at: usize| format!("unix_micros({})", self.column(at));
        AsOf {
            table: self.view.clone(),
            keys: view.keys.iter().map(|key| self.column(key.at)).collect(),
            time: micros(self.plan.timestamp),
            created: self.plan.created.map(micros),
            number: sql::quoted(ROW),
            below: self.below,
            replaces: self.corrected.then(|| sql::quoted(REPLACES)),
            known: false,
            features,
        }
    }
}
