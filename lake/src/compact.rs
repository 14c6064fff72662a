//! Compaction: the small files of a day become one, and rows that later rows replace go.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use arrow::{
    array::{AsArray as _, BooleanArray, RecordBatch},
    compute::{concat_batches, filter_record_batch},
    datatypes::{Int64Type, Schema, SchemaRef},
};
use deltalake_core::{
    kernel::{Action, Remove},
    protocol::DeltaOperation,
};
use storage::StorageError;

use crate::{
    EVENT_DATE, commit,
    encode::{self, arrow_failed},
    failure,
    file::LiveFile,
    snapshot::Snapshot,
    table::LakeTable,
};

/// A file of this size is left alone.
const GOOD_BYTES: u64 = 32 << 20;
/// Files become about this large at most.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Rewritten between two commits: what a crash can cost.
const STEP_BYTES: u64 = 512 << 20;
const STEP_FILES: usize = 256;

/// How much a compaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Bytes of files it may rewrite, at least one group of them; what is left is for the next run.
    pub bytes: u64,
}

impl Bound {
    /// All there is to do.
    pub const NONE: Self = Self { bytes: u64::MAX };
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that went, and those that came for them.
    pub files_before: u64,
    pub files_after: u64,
    /// Rows that others had replaced.
    pub rows_dropped: u64,
    /// Bytes of the files that went.
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Whether the bound left something to do.
    pub more: bool,
}

/// Files of one day that become one.
struct Group {
    files: Vec<LiveFile>,
}

impl LakeTable {
    /// Rewrites what is in small pieces. Readers see the table before or after, and earlier versions stay until a
    /// vacuum. One at a time; rows may come in meanwhile.
    ///
    /// A row goes when a later row of the same version, numbered below `through`, replaces it: whatever was standing at
    /// an earlier row can still be read from the version that had it.
    pub async fn compact(&self, bound: Bound, through: u64) -> Result<Compacted, StorageError> {
        let _maintaining = self.inner.maintaining.lock().await;
        let mut done = Compacted::default();
        let Some(snapshot) = self.snapshot() else { return Ok(done) };
        let settled = commit::marked(&self.inner.log, snapshot.state(), commit::SETTLED).await?.unwrap_or(0);
        let files = snapshot.files().await?;
        let through = i64::try_from(through.min(snapshot.rows())).unwrap_or(i64::MAX);
        let replaced = Arc::new(self.replaced(&snapshot, &files, settled..through).await?);
        let columns = snapshot.schema()?;
        let groups = self.groups(&snapshot, files, &replaced).await?;
        let (mut step, mut step_bytes) = (Vec::new(), 0);
        for group in groups {
            if done.bytes_before >= bound.bytes {
                done.more = true;
                break;
            }
            step_bytes += group.files.iter().map(|file| file.bytes).sum::<u64>();
            step.extend(self.rewrite(&snapshot, group, &columns, &replaced, &mut done).await?);
            if step_bytes >= STEP_BYTES || step.len() >= STEP_FILES {
                self.swap(std::mem::take(&mut step)).await?;
                step_bytes = 0;
            }
        }
        if !done.more && !replaced.is_empty() {
            step.push(commit::mark(commit::SETTLED, through));
        }
        if !step.is_empty() {
            self.swap(step).await?;
        }
        Ok(done)
    }

    /// Numbers of rows that rows with these numbers replace.
    async fn replaced(
        &self,
        snapshot: &Snapshot,
        files: &[LiveFile],
        by: Range<i64>,
    ) -> Result<BTreeSet<i64>, StorageError> {
        let layout = self.layout();
        let wanted = self.columns(snapshot, &[&layout.row, &layout.replaces])?;
        let mut replaced = BTreeSet::new();
        let new = |file: &&LiveFile| {
            file.corrections != Some(0) && file.numbers.is_none_or(|(min, max)| max >= by.start && min < by.end)
        };
        for file in files.iter().filter(new) {
            for batch in snapshot.read(file, &wanted).await? {
                let (numbers, replaces) = (ints(&batch, 0), ints(&batch, 1));
                let pairs = numbers.iter().zip(replaces.iter());
                replaced.extend(
                    pairs.filter(|(number, _)| number.is_some_and(|n| by.contains(&n))).filter_map(|(_, old)| old),
                );
            }
        }
        Ok(replaced)
    }

    fn columns(&self, snapshot: &Snapshot, names: &[&str]) -> Result<SchemaRef, StorageError> {
        let schema = snapshot.schema()?;
        let fields = names.iter().map(|name| schema.field_with_name(name).cloned());
        let fields = fields.collect::<Result<Vec<_>, _>>().map_err(arrow_failed)?;
        Ok(Arc::new(Schema::new(fields)))
    }

    /// What is worth rewriting: neighbours of a day that are small, and files with rows that are replaced.
    async fn groups(
        &self,
        snapshot: &Snapshot,
        files: Vec<LiveFile>,
        replaced: &BTreeSet<i64>,
    ) -> Result<Vec<Group>, StorageError> {
        let mut groups = Vec::new();
        let mut files = files.into_iter().peekable();
        while let Some(first) = files.next() {
            let day = first.day.clone();
            let mut of_day = vec![first];
            while let Some(next) = files.next_if(|file| file.day == day) {
                of_day.push(next);
            }
            let mut small: Vec<LiveFile> = Vec::new();
            for file in of_day {
                if file.bytes < GOOD_BYTES {
                    if small.iter().map(|file| file.bytes).sum::<u64>() + file.bytes > FILE_BYTES_MAX {
                        self.add_group(snapshot, &mut groups, std::mem::take(&mut small), replaced).await?;
                    }
                    small.push(file);
                } else {
                    self.add_group(snapshot, &mut groups, vec![file], replaced).await?;
                }
            }
            self.add_group(snapshot, &mut groups, small, replaced).await?;
        }
        Ok(groups)
    }

    async fn add_group(
        &self,
        snapshot: &Snapshot,
        groups: &mut Vec<Group>,
        files: Vec<LiveFile>,
        replaced: &BTreeSet<i64>,
    ) -> Result<(), StorageError> {
        let worth = match files.as_slice() {
            [] => false,
            [only] => self.has_any(snapshot, only, replaced).await?,
            _ => true,
        };
        if worth {
            groups.push(Group { files });
        }
        Ok(())
    }

    async fn has_any(
        &self,
        snapshot: &Snapshot,
        file: &LiveFile,
        numbers: &BTreeSet<i64>,
    ) -> Result<bool, StorageError> {
        let (min, max) = file.numbers.unwrap_or((i64::MIN, i64::MAX));
        if numbers.range(min..=max).next().is_none() {
            return Ok(false);
        }
        let wanted = self.columns(snapshot, &[&self.layout().row])?;
        let batches = snapshot.read(file, &wanted).await?;
        Ok(batches.iter().any(|batch| ints(batch, 0).iter().flatten().any(|number| numbers.contains(&number))))
    }

    /// Writes the group's file, and gives what a commit has to say of it.
    async fn rewrite(
        &self,
        snapshot: &Snapshot,
        group: Group,
        columns: &SchemaRef,
        replaced: &Arc<BTreeSet<i64>>,
        done: &mut Compacted,
    ) -> Result<Vec<Action>, StorageError> {
        let mut rows = Vec::new();
        for file in &group.files {
            rows.extend(snapshot.read(file, columns).await?);
        }
        let (layout, columns, replaced) = (self.layout(), columns.clone(), replaced.clone());
        let work = move || {
            let rows = concat_batches(&columns, &rows).map_err(arrow_failed)?;
            let kept = without(&rows, &layout.row, &replaced)?;
            let dropped = rows.num_rows() - kept.num_rows();
            Ok::<_, StorageError>((encode::by_day(&kept, &layout)?, dropped as u64))
        };
        let (encoded, dropped) = tokio::task::spawn_blocking(work).await.map_err(failure::gone)??;
        done.files_before += group.files.len() as u64;
        done.bytes_before += group.files.iter().map(|file| file.bytes).sum::<u64>();
        done.files_after += encoded.len() as u64;
        done.bytes_after += encoded.iter().map(|file| file.bytes.len() as u64).sum::<u64>();
        done.rows_dropped += dropped;
        // Joining files changes no data, dropping rows does.
        let change = dropped > 0;
        let mut actions: Vec<Action> =
            commit::put_all(self, encoded, change).await?.into_iter().map(Action::Add).collect();
        actions.extend(group.files.into_iter().map(|file| Action::Remove(removed(file, change))));
        Ok(actions)
    }

    async fn swap(&self, actions: Vec<Action>) -> Result<(), StorageError> {
        let _committing = self.inner.committing.lock().await;
        self.settle().await?;
        let Some(state) = self.state() else { return Ok(()) };
        let operation = DeltaOperation::Optimize {
            predicate: None,
            target_size: i64::try_from(FILE_BYTES_MAX).unwrap_or(i64::MAX),
        };
        let doing = format!("commit the compaction of table {}", self.inner.name);
        let committed = commit::commit(&self.inner.log, &state, actions, operation).await;
        self.committed(committed.map_err(failure::delta(doing)), None).await
    }
}

fn removed(file: LiveFile, change: bool) -> Remove {
    Remove {
        path: file.path,
        data_change: change,
        deletion_timestamp: Some(jiff::Timestamp::now().as_millisecond()),
        extended_file_metadata: Some(true),
        partition_values: Some([(EVENT_DATE.to_owned(), file.day)].into()),
        size: i64::try_from(file.bytes).ok(),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
    }
}

fn ints(batch: &RecordBatch, at: usize) -> &arrow::array::PrimitiveArray<Int64Type> {
    batch.column(at).as_primitive()
}

/// The rows whose number is not in `numbers`.
fn without(rows: &RecordBatch, number: &str, numbers: &BTreeSet<i64>) -> Result<RecordBatch, StorageError> {
    if numbers.is_empty() {
        return Ok(rows.clone());
    }
    let at = rows.schema().index_of(number).map_err(arrow_failed)?;
    let stays: BooleanArray = ints(rows, at).iter().map(|n| Some(n.is_none_or(|n| !numbers.contains(&n)))).collect();
    filter_record_batch(rows, &stays).map_err(arrow_failed)
}
