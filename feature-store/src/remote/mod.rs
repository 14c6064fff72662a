//! The same join on a Spark Connect server: each view becomes SQL over the files of its source's table.
//!
//! Questions are sent along in pieces (`spine`); rows that are only in the log are sealed first, so that the server reads
//! one list of files, which is also how an earlier state is named. SQL finds the newest row or the running totals
//! (`as_of`, `totals`, `least`, `newest`) in whole numbers of microseconds and millionths; what follows from them (time to
//! live, defaults, means and deviations) is said by the code that says it for the own engine, so both give the same bits.
//!
//! Everything is a union and a window function over one key, never a join by range: it scales with the rows.

mod answer;
mod as_of;
mod least;
mod newest;
mod place;
mod source;
mod spine;
mod sql;
mod totals;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use domain::{Frame, SourceName, Timestamp};
use spark::Spark;

pub use as_of::AsOf;
pub use place::{JoinPlace, JoinPlan, Remote};

use self::{answer::Places, source::Remoted, spine::Questions};
use crate::{
    Inner,
    answer::ViewRows,
    catalog::{Catalog, ServicePlan},
    error::FeatureError,
    table::Mark,
    view::{Rule, ViewPlan},
};

/// What a session's SQL depends on. Everything else (ANSI mode, shuffles) is the server's own affair.
const SETTINGS: [(&str, &str); 2] = [
    ("spark.sql.session.timeZone", "UTC"),
    // Files that did not come from Spark and have instants before 1900.
    ("spark.sql.parquet.datetimeRebaseModeInRead", "CORRECTED"),
];

impl Inner {
    /// [`Inner::join`] on Spark.
    pub(crate) async fn join_on(
        &self,
        spark: &Spark,
        catalog: &Catalog,
        plan: &ServicePlan,
        keys: Arc<Frame>,
        at: Arc<[Timestamp]>,
        marks: &BTreeMap<SourceName, Mark>,
    ) -> Result<Vec<ViewRows>, FeatureError> {
        let newest = at.iter().max().copied().unwrap_or(Timestamp::MIN);
        let mut session = spark.session();
        session.set(&SETTINGS).await?;
        let mut columns: BTreeMap<&SourceName, BTreeSet<usize>> = BTreeMap::new();
        for part in &plan.parts {
            columns.entry(&part.view.source).or_default().extend(part.view.needed());
        }
        let mut sources: BTreeMap<&SourceName, Remoted> = BTreeMap::new();
        for (number, (name, columns)) in columns.into_iter().enumerate() {
            let (source, table) = (catalog.source(name)?, self.source_table(name)?);
            let view = format!("source{number}");
            let remoted = source::open(&mut session, view, source, &table, &columns, newest, marks.get(name)).await?;
            sources.insert(name, remoted);
        }
        let mut answers = Vec::with_capacity(plan.parts.len());
        for part in &plan.parts {
            let source = sources.get(&part.view.source).ok_or_else(|| unread(&part.view))?;
            let questions = Questions::new(&part.view, &keys, &at)?;
            answers.push(match part.view.is_windowed() {
                true => windows(&mut session, source, &part.view, &part.outputs, &questions).await?,
                false => plain(&mut session, source, &part.view, &part.outputs, &questions).await?,
            });
        }
        session.close().await;
        Ok(answers)
    }
}

fn unread(view: &ViewPlan) -> FeatureError {
    crate::error::unknown("Source", view.source.as_str(), [])
}

/// A plain view: the newest row of each question.
async fn plain(
    session: &mut spark::Session,
    source: &Remoted,
    view: &ViewPlan,
    outputs: &[usize],
    questions: &Questions<'_>,
) -> Result<ViewRows, FeatureError> {
    let spine = questions.send(session, &[]).await?;
    let mut features = Vec::with_capacity(outputs.len());
    for &index in outputs {
        let Rule::Newest { kept, .. } = &view.outputs[index].rule else {
            return Err(crate::table::corrupt(format!("view {} is not plain", view.name)));
        };
        features.push((source.column(view.kept[*kept].at), view.kept[*kept].kind));
    }
    let asked = source.as_of(view, features.iter().map(|(column, _)| column.clone()).collect());
    let kinds: Vec<_> = features.iter().map(|(_, kind)| *kind).collect();
    let found = answer::fetch(session, &asked.sql(&spine), &kinds).await?;
    let places = Places::of(&found, questions.rows())?;
    let newest = places.newest(view, questions.at, &found)?;
    let mut columns = Vec::with_capacity(outputs.len());
    for (number, &index) in outputs.iter().enumerate() {
        if let Rule::Newest { default, .. } = &view.outputs[index].rule {
            columns.push(places.pick(found.require(&answer::feature(number))?, &newest, default));
        }
    }
    Ok(ViewRows { columns, newest })
}

/// A windowed view: totals, then what is made of tiles.
async fn windows(
    session: &mut spark::Session,
    source: &Remoted,
    view: &ViewPlan,
    outputs: &[usize],
    questions: &Questions<'_>,
) -> Result<ViewRows, FeatureError> {
    let totals = totals::ask(session, source, view, outputs, questions).await?;
    let mut columns = Vec::with_capacity(outputs.len());
    for &index in outputs {
        let output = &view.outputs[index];
        columns.push(match &output.rule {
            Rule::Window { kept, function, window } => totals.column(*function, *kept, *window)?,
            Rule::Tile(rule) => {
                let chain = &view.tiles.0[rule.chain];
                let slot = chain.slots[rule.slot];
                let at = chain.columns[slot.column];
                match slot.fold {
                    crate::window::Fold::Last(most) => {
                        newest::ask(session, source, view, at, most, rule.span, output.kind, questions).await?
                    }
                    fold => least::ask(session, source, view, at, fold, rule.span, output.kind, questions).await?,
                }
            }
            Rule::Newest { .. } => return Err(crate::table::corrupt(format!("view {} is not windowed", view.name))),
        });
    }
    Ok(ViewRows { columns, newest: totals.newest })
}
