//! Reading a source's rows as they stand: all of a stretch of time, or each key's newest.

use std::collections::{BTreeSet, HashMap};

use domain::{Column, Frame, SourceName, Timestamp, error::nearest};

use crate::{
    FeatureStore,
    error::{Doing as _, FeatureError},
    history::History,
    key,
    view::SourcePlan,
};

/// Event times from `from` to `to`, both inclusive; `None` is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stretch {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

impl FeatureStore {
    /// The named columns of the rows that stand (no correction has replaced them), in order of event time, rows of
    /// one instant in order of ingestion.
    ///
    /// # Errors
    /// `Unknown` source or column.
    pub async fn rows(&self, source: &SourceName, columns: &[String], stretch: Stretch) -> Result<Frame, FeatureError> {
        let (history, places) = self.history_of(source, columns, &[], stretch).await?;
        let columns = columns.to_vec();
        let pick = move || {
            let mut rows = within(&history, stretch);
            rows.sort_by_key(|&row| (history.times[row], history.numbers[row]));
            taken(&history, &columns, &places, &rows)
        };
        self.0.cpu.run(pick).await.doing("read rows")?
    }

    /// The same, but of each combination of `keys` only the row that counts: greatest event time, then greatest
    /// created time (none is lowest), then the one ingested last. Rows with a null key are left out.
    ///
    /// # Errors
    /// `Unknown` source or column.
    pub async fn latest_rows(
        &self,
        source: &SourceName,
        keys: &[String],
        columns: &[String],
        stretch: Stretch,
    ) -> Result<Frame, FeatureError> {
        let (history, places) = self.history_of(source, columns, keys, stretch).await?;
        let key_places = positions(&*self.0.catalog().source(source)?, keys)?;
        let columns = columns.to_vec();
        let pick = move || {
            let key_columns: Vec<&Column> =
                key_places.iter().map(|&at| history.column(at)).collect::<Result<_, FeatureError>>()?;
            let rank = |row: usize| {
                let created = history.created.as_ref().and_then(|created| created[row]);
                (history.times[row], created, history.numbers[row])
            };
            let mut newest: HashMap<Vec<u8>, usize> = HashMap::new();
            for row in within(&history, stretch) {
                let mut key = Vec::new();
                if !key_columns.iter().all(|column| key::push_cell(&mut key, column, row)) {
                    continue;
                }
                let known = newest.entry(key).or_insert(row);
                if rank(row) > rank(*known) {
                    *known = row;
                }
            }
            let mut rows: Vec<usize> = newest.into_values().collect();
            rows.sort_by_key(|&row| (history.times[row], history.numbers[row]));
            taken(&history, &columns, &places, &rows)
        };
        self.0.cpu.run(pick).await.doing("read rows")?
    }

    /// The rows up to the end of the stretch, and where the named columns stand.
    async fn history_of(
        &self,
        source: &SourceName,
        columns: &[String],
        keys: &[String],
        stretch: Stretch,
    ) -> Result<(History, Vec<usize>), FeatureError> {
        let plan = self.0.catalog().source(source)?;
        let places = positions(&plan, columns)?;
        let mut needed: BTreeSet<usize> = places.iter().copied().collect();
        needed.extend(positions(&plan, keys)?);
        let table = self.0.source_table(source)?;
        let history = History::load(&plan, &table, &needed, stretch.to, None).await?;
        Ok((history, places))
    }
}

fn positions(plan: &SourcePlan, columns: &[String]) -> Result<Vec<usize>, FeatureError> {
    let known = || plan.names.iter().map(|name| &**name);
    let find = |name: &String| {
        known().position(|known| known == name).ok_or_else(|| FeatureError::Unknown {
            kind: "Column",
            name: format!("{}.{name}", plan.definition.name),
            near: nearest(name, known()).map(str::to_owned),
        })
    };
    columns.iter().map(find).collect()
}

fn within(history: &History, stretch: Stretch) -> Vec<usize> {
    let (from, to) = (stretch.from.map(Timestamp::micros), stretch.to.map(Timestamp::micros));
    let holds = |time: i64| from.is_none_or(|from| time >= from) && to.is_none_or(|to| time <= to);
    (0..history.rows()).filter(|&row| holds(history.times[row])).collect()
}

fn taken(history: &History, names: &[String], places: &[usize], rows: &[usize]) -> Result<Frame, FeatureError> {
    let mut frame = Frame::of_rows(rows.len());
    for (name, &at) in names.iter().zip(places) {
        frame.add(name.as_str(), history.column(at)?.take(rows))?;
    }
    Ok(frame)
}
