//! Stored rows of a source, read a batch at a time.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array as _, RecordBatch},
    datatypes::SchemaRef,
};
use domain::{Field, Timestamp};
use lake::{LiveFile, Numbers, Snapshot};
use storage::StorageError;

use crate::{
    Inner,
    error::{Doing as _, FeatureError},
    table::{REPLACES, ROW, SourceTable, StoredRow, numbers, rows_in, system_fields},
    view::SourcePlan,
};

const DOING: &str = "read rows";

/// The rows of a table at one moment, those of the log included.
pub(crate) struct Stock {
    schema: SchemaRef,
    snapshot: Option<Snapshot>,
    files: Vec<LiveFile>,
    /// Rows that no file has yet.
    rest: Vec<RecordBatch>,
}

impl Stock {
    /// The fields and the system's columns of all rows.
    pub(crate) async fn open(table: &SourceTable, fields: &[Field]) -> Result<Self, FeatureError> {
        let mut fields = fields.to_vec();
        fields.extend(system_fields());
        let schema = storage::schema_of(&fields);
        table.here().doing(DOING)?;
        // The log before the table: what is sealed in between is in both, and counted once below.
        let (first, logged) = table.logged();
        let snapshot = table.lake.snapshot();
        let files = match &snapshot {
            Some(snapshot) => snapshot.files().await.doing(DOING)?,
            None => Vec::new(),
        };
        let sealed = snapshot.as_ref().map_or(0, Snapshot::rows);
        let rest = table.lake.rest(&schema, None, &logged, sealed.saturating_sub(first)).doing(DOING)?;
        Ok(Self { schema, snapshot, files, rest })
    }

    /// Without files that have no row numbered from `first` to `last`.
    pub(crate) fn numbered(mut self, first: i64, last: i64) -> Self {
        self.files.retain(|file| file.numbers.is_none_or(|(min, max)| min <= last && max >= first));
        self
    }

    /// Without files that have no row from `from` to `to`.
    fn within(mut self, (from, to): (Timestamp, Timestamp)) -> Self {
        let (from, to) = (from.micros(), to.micros());
        self.files.retain(|file| file.times.is_none_or(|(min, max)| min <= to && max >= from));
        self
    }

    /// Whether some row takes the place of an earlier one, or nobody knows.
    pub(crate) fn corrects(&self) -> Result<bool, FeatureError> {
        let mut logged = false;
        for batch in &self.rest {
            let replaces = numbers(batch, REPLACES)?;
            logged |= replaces.null_count() < replaces.len();
        }
        Ok(logged || self.files.iter().any(|file| file.corrections != Some(0)))
    }

    /// The numbers of rows that later ones take the place of. Blocks.
    pub(crate) fn replaced(&self) -> Result<Vec<i64>, FeatureError> {
        let mut found = Vec::new();
        let [_, replaces] = system_fields();
        let wanted = storage::schema_of(&[replaces]);
        for file in self.files.iter().filter(|file| file.corrections != Some(0)) {
            let Some(snapshot) = &self.snapshot else { break };
            for batch in snapshot.pieces(file, &wanted, None).doing(DOING)? {
                found.extend(numbers(&batch.doing(DOING)?, REPLACES)?.iter().flatten());
            }
        }
        for batch in &self.rest {
            found.extend(numbers(batch, REPLACES)?.iter().flatten());
        }
        Ok(found)
    }

    /// The rows whose number is wanted, files first. Blocks.
    pub(crate) fn batches(self, wanted: Option<Numbers>) -> impl Iterator<Item = Result<RecordBatch, FeatureError>> {
        let Self { schema, snapshot, files, rest } = self;
        let filter = wanted.clone();
        let of_files = files.into_iter().flat_map(move |file| {
            let pieces = match &snapshot {
                Some(snapshot) => snapshot.pieces(&file, &schema, filter.clone()),
                None => Err(StorageError::Gone { what: file.path.clone() }),
            };
            let (pieces, failed) = match pieces {
                Ok(pieces) => (Some(pieces), None),
                Err(error) => (None, Some(Err(error))),
            };
            failed.into_iter().chain(pieces.into_iter().flatten())
        });
        let of_log = rest.into_iter().map(move |batch| match &wanted {
            Some(wanted) => picked(&batch, wanted),
            None => Ok(batch),
        });
        of_files.map(|batch| batch.doing(DOING)).chain(of_log)
    }
}

fn picked(batch: &RecordBatch, wanted: &Numbers) -> Result<RecordBatch, FeatureError> {
    let holds = numbers(batch, ROW)?.iter().map(|number| Some(number.is_some_and(|number| wanted(number))));
    arrow::compute::filter_record_batch(batch, &holds.collect()).map_err(super::arrow_failed)
}

impl Inner {
    /// The rows with these numbers, whose event times lie within the span.
    pub(crate) async fn stored_rows(
        &self,
        plan: &SourcePlan,
        table: &SourceTable,
        numbers: BTreeSet<i64>,
        span: (Timestamp, Timestamp),
    ) -> Result<Vec<StoredRow>, FeatureError> {
        let (Some(first), Some(last)) = (numbers.first().copied(), numbers.last().copied()) else {
            return Ok(Vec::new());
        };
        let columns = plan.definition.columns.clone();
        let fields: Vec<Field> = columns.iter().map(|c| Field::new(c.name.as_str(), c.kind)).collect();
        let numbers = Arc::new(numbers);
        let mut tries = 0;
        loop {
            let stock = Stock::open(table, &fields).await?.numbered(first, last).within(span);
            let (wanted, fields) = (numbers.clone(), fields.clone());
            let read = move || {
                let wanted: Numbers = Arc::new(move |number| wanted.contains(&number));
                let mut rows = Vec::new();
                for batch in stock.batches(Some(wanted)) {
                    rows.extend(rows_in(&batch?, &fields)?);
                }
                Ok::<_, FeatureError>(rows)
            };
            match self.cpu.run(read).await.doing(DOING)? {
                // Files that were compacted and cleared away meanwhile: the newest version has the rows.
                Err(FeatureError::Storage { source: StorageError::Gone { .. }, .. }) if tries < 3 => tries += 1,
                read => return read,
            }
        }
    }
}
