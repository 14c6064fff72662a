//! A source's rows as record batches, file by file: for readers that look at all of them once.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{AsArray as _, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType},
};
use domain::{Field, SourceName, Timestamp, ValueType, error::nearest};
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use lake::LiveFile;

use crate::{
    FeatureStore, Stretch,
    error::{Doing as _, FeatureError},
    table::{self, Pieces, REPLACES, ROW},
};

/// Files that are decoded ahead of the reader.
const DECODED_AHEAD: usize = 1;

impl FeatureStore {
    /// The named columns of the rows that stand (no correction has replaced them) with an event time in the stretch, in
    /// no particular order. Holds a file of the table at a time, and what is in the log.
    ///
    /// What is ingested after the call is not among them. A file that a vacuum takes away meanwhile ends the stream with
    /// an error.
    ///
    /// # Errors
    /// `Unknown` source or column; what storage says.
    pub async fn scan(
        &self,
        source: &SourceName,
        columns: &[String],
        stretch: Stretch,
    ) -> Result<BoxStream<'static, Result<RecordBatch, FeatureError>>, FeatureError> {
        let plan = self.0.catalog().source(source)?;
        let mut fields = Vec::with_capacity(columns.len() + 3);
        for name in columns {
            let found = plan.definition.columns.iter().find(|column| column.name.as_str() == name);
            let column = found.ok_or_else(|| FeatureError::Unknown {
                kind: "Column",
                name: format!("{source}.{name}"),
                near: nearest(name, plan.names.iter().map(|name| &**name)).map(str::to_owned),
            })?;
            fields.push(Field::new(name.as_str(), column.kind));
        }
        let wanted = storage::schema_of(&fields);
        fields.push(Field::new(ROW, ValueType::Int));
        let time = plan.definition.timestamp.to_string();
        let at = fields.iter().position(|field| *field.name == *time).unwrap_or_else(|| {
            fields.push(Field::new(time.as_str(), ValueType::Timestamp));
            fields.len() - 1
        });
        let read = storage::schema_of(&fields);
        let span = (stretch.from.unwrap_or(Timestamp::MIN).micros(), stretch.to.unwrap_or(Timestamp::MAX).micros());
        let pieces = self.0.source_table(source)?.pieces(span).await?;
        let gone = Arc::new(replaced(&pieces).await?);
        let rest = pieces.rest(&read, span)?;

        let Pieces { snapshot, files, .. } = pieces;
        let files = match snapshot {
            Some(snapshot) => stream::iter(files)
                .map({
                    let read = read.clone();
                    move |file: LiveFile| {
                        let (snapshot, read) = (snapshot.clone(), read.clone());
                        async move { snapshot.read(&file, &read).await.doing("read rows") }
                    }
                })
                .buffered(DECODED_AHEAD)
                .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
                .try_flatten()
                .boxed(),
            None => stream::empty().boxed(),
        };
        let row = wanted.fields().len();
        let keep = move |batch: RecordBatch| standing(&batch, row, at, span, &gone, &wanted);
        let all = files.chain(stream::iter(rest.into_iter().map(Ok)));
        let kept = all.map(move |batch| batch.and_then(&keep));
        Ok(kept.try_filter(|batch| std::future::ready(batch.num_rows() > 0)).boxed())
    }

    /// The columns of a source as [`FeatureStore::scan`] gives them.
    ///
    /// # Errors
    /// `Unknown` source.
    pub fn scan_schema(&self, source: &SourceName) -> Result<SchemaRef, FeatureError> {
        Ok(storage::schema_of(&table::fields_of(&self.source(source)?)))
    }
}

/// Numbers of rows that later ones put right. Files without corrections are not opened for it.
async fn replaced(pieces: &Pieces) -> Result<HashSet<i64>, FeatureError> {
    let schema = storage::schema_of(&[Field::new(REPLACES, ValueType::Int)]);
    let mut batches = pieces.rest(&schema, (i64::MIN, i64::MAX))?;
    for file in pieces.files.iter().filter(|file| file.corrections != Some(0)) {
        if let Some(snapshot) = &pieces.snapshot {
            batches.extend(snapshot.read(file, &schema).await.doing("read rows")?);
        }
    }
    let mut gone = HashSet::new();
    for batch in &batches {
        gone.extend(table::numbers(batch, REPLACES)?.iter().flatten());
    }
    Ok(gone)
}

/// The wanted columns of the rows that stand and lie in the span.
fn standing(
    batch: &RecordBatch,
    row: usize,
    at: usize,
    span: (i64, i64),
    gone: &HashSet<i64>,
    wanted: &SchemaRef,
) -> Result<RecordBatch, FeatureError> {
    let wide = |error: arrow::error::ArrowError| table::corrupt(error.to_string());
    let numbers = batch.column(row).as_primitive::<Int64Type>();
    let times = batch.column(at).as_primitive::<TimestampMicrosecondType>();
    let open = span == (Timestamp::MIN.micros(), Timestamp::MAX.micros());
    let stands = |at: usize| {
        (open || (span.0..=span.1).contains(&times.value(at)))
            && (gone.is_empty() || !gone.contains(&numbers.value(at)))
    };
    let narrow: Vec<usize> = (0..wanted.fields().len()).collect();
    let columns = batch.project(&narrow).map_err(wide)?;
    if open && gone.is_empty() {
        return Ok(columns);
    }
    let mask: BooleanArray = (0..numbers.len()).map(|at| Some(stands(at))).collect();
    filter_record_batch(&columns, &mask).map_err(wide)
}
