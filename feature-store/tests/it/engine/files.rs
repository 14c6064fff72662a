//! What is read, what is kept on disk, and what becomes of it when something goes wrong.

use std::{
    fs, io,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    compute::concat_batches,
    datatypes::TimeUnit,
};
use bytes::Bytes;
use domain::{Coded as _, ErrorCode};
use feature_store::join::{
    Compression, Feature, Join, JoinKey, JoinView, LocalFile, Mode, Options, Part, ReadAt, Spine,
};
use parquet::{
    arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    file::properties::EnabledStatistics,
};

use super::reference::{column, file, joined, times};

const ROWS: i64 = 20_000;

/// Keys 0 to 99 in turns, a row each microsecond; wide texts that compress badly.
fn rows() -> RecordBatch {
    let texts =
        (0..ROWS).map(|n| format!("{:032x}", (n as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C9E_1234_5679)));
    RecordBatch::try_from_iter([
        ("k", Arc::new((0..ROWS).map(|n| Some(n % 100)).collect::<Int64Array>()) as ArrayRef),
        ("t", times((0..ROWS).map(Some), TimeUnit::Microsecond, None)),
        ("x", Arc::new((0..ROWS).map(Some).collect::<Int64Array>())),
        ("wide", Arc::new(texts.map(Some).collect::<StringArray>())),
    ])
    .unwrap()
}

fn spine(questions: impl Iterator<Item = (i64, i64)> + Clone) -> RecordBatch {
    RecordBatch::try_from_iter([
        ("k", Arc::new(questions.clone().map(|(k, _)| Some(k)).collect::<Int64Array>()) as ArrayRef),
        ("at", times(questions.map(|(_, at)| Some(at)), TimeUnit::Microsecond, None)),
    ])
    .unwrap()
}

fn view(parts: Vec<Part>, features: &[&str], ttl_micros: i64) -> JoinView {
    let feature = |column: &&str| Feature { column: (*column).into(), name: format!("v__{column}"), data_type: None };
    JoinView {
        name: "v".into(),
        parts,
        keys: vec![JoinKey::same("k")],
        timestamp: "t".into(),
        created: None,
        sequence: None,
        ttl_micros,
        mode: Mode::Plain,
        features: features.iter().map(feature).collect(),
        newest: None,
    }
}

/// With so many wide features that they outweigh the questions.
fn wide(name: &str, bytes: Bytes) -> JoinView {
    let part = Part::parquet("rows.parquet", Arc::new(bytes)).unwrap();
    let feature = |n: usize| Feature { column: "wide".into(), name: format!("{name}__wide{n}"), data_type: None };
    let mut view = view(vec![part], &["x"], 0);
    view.name = name.into();
    view.features[0].name = format!("{name}__x");
    view.features.extend((0..8).map(feature));
    view
}

/// Memory for the index of all questions, not for the features.
const SCARCE: usize = 8 << 20;

/// Counts what is read.
struct Counting(Bytes, AtomicU64);

impl ReadAt for Counting {
    fn len(&self) -> u64 {
        ReadAt::len(&self.0)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.1.fetch_add(range.end - range.start, Ordering::Relaxed);
        self.0.read(range)
    }
}

/// Bytes read beyond the footer for one question.
fn bytes_read(statistics: EnabledStatistics, at: i64, ttl: i64, features: &[&str]) -> u64 {
    let source = Arc::new(Counting(file(&rows(), 500, statistics), AtomicU64::new(0)));
    let part = Part::parquet("rows", source.clone()).unwrap();
    let footer = source.1.load(Ordering::Relaxed);
    let found =
        joined(vec![spine([(7, at)].into_iter()).into()], vec![view(vec![part], features, ttl)], Options::default())
            .unwrap();
    assert_eq!(column(&found, "v__x"), [Some((at - 7) / 100 * 100 + 7)]);
    source.1.load(Ordering::Relaxed) - footer
}

#[test]
fn only_needed_columns_and_row_groups_are_read() {
    let all = bytes_read(EnabledStatistics::None, ROWS, 0, &["x", "wide"]);
    let narrow = bytes_read(EnabledStatistics::None, ROWS, 0, &["x"]);
    let early = bytes_read(EnabledStatistics::Chunk, 1_500, 0, &["x"]);
    let recent = bytes_read(EnabledStatistics::Chunk, 15_000, 900, &["x"]);
    assert!(all > narrow, "{all} {narrow}");
    assert!(early * 5 < narrow, "of what happens later nothing is read: {early} {narrow}");
    assert!(recent * 5 < narrow, "of what is too old nothing is read: {recent} {narrow}");
    let whole = ReadAt::len(&file(&rows(), 500, EnabledStatistics::None));
    assert!(narrow * 2 < whole, "a column not asked for is not read: {narrow} {whole}");
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

fn questions() -> impl Iterator<Item = (i64, i64)> + Clone {
    (0..30_000).map(|n| (n * 31 % 110, n * 7 % (ROWS + 500)))
}

fn expected() -> Vec<Option<i64>> {
    questions()
        .map(|(k, at)| {
            (k < 100 && at.min(ROWS - 1) >= k).then(|| {
                let at = at.min(ROWS - 1);
                (at - k) / 100 * 100 + k
            })
        })
        .collect()
}

#[test]
fn what_does_not_fit_waits_on_disk_and_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let views = || ["v", "w"].map(|name| wide(name, file(&rows(), 3_000, EnabledStatistics::Chunk))).to_vec();
    let parts = vec![Part::from(spine(questions()))];
    let plenty = joined(parts.clone(), views(), Options::default()).unwrap();
    assert_eq!(column(&plenty, "v__x"), expected());
    for threads in [1, 3] {
        let options = Options { memory_bytes: SCARCE, temporary: dir.path().to_owned(), threads, ..Options::default() };
        let mut rows =
            Join::new(Spine { parts: parts.clone(), timestamp: "at".into() }, views(), options).unwrap().run();
        let mut batches = vec![rows.next().unwrap().unwrap()];
        assert!(entries(dir.path()) > 0, "features wait on disk");
        batches.extend(rows.by_ref().map(Result::unwrap));
        drop(rows);
        assert_eq!(entries(dir.path()), 0);
        assert!(concat_batches(&plenty.schema(), &batches).unwrap() == plenty, "{threads} threads");
    }
}

#[test]
fn temporary_files_go_away_when_the_join_fails_or_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(&rows(), 3_000, EnabledStatistics::Chunk);
    let run = |second: Bytes| {
        let options =
            Options { memory_bytes: SCARCE, temporary: dir.path().to_owned(), threads: 1, ..Options::default() };
        let spine = Spine { parts: vec![spine(questions()).into()], timestamp: "at".into() };
        Join::new(spine, vec![wide("v", good.clone()), wide("w", second)], options).unwrap().run()
    };
    let mut given_up = run(good.clone());
    given_up.next().unwrap().unwrap();
    assert!(entries(dir.path()) > 0, "features wait on disk");
    drop(given_up);
    assert_eq!(entries(dir.path()), 0);

    // Zeroed where the last row group has its wide column.
    let mut bytes = good.to_vec();
    let meta = ParquetRecordBatchReaderBuilder::try_new(good.clone()).unwrap().metadata().clone();
    let (start, length) = meta.row_groups().last().unwrap().column(3).byte_range();
    bytes[start as usize..(start + length) as usize].fill(0);
    let errors: Vec<_> = run(bytes.into()).filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1, "an error ends it");
    assert_eq!(errors[0].code(), ErrorCode::DataLoss);
    assert!(errors[0].to_string().starts_with("could not read `rows.parquet` of view `w`: "), "{}", errors[0]);
    assert_eq!(entries(dir.path()), 0);
}

#[test]
fn no_room_for_temporary_files_is_an_error() {
    let options = Options { memory_bytes: SCARCE, temporary: "/nowhere/at/all".into(), ..Options::default() };
    let views = ["v", "w"].map(|name| wide(name, file(&rows(), 3_000, EnabledStatistics::Chunk))).to_vec();
    let error = joined(vec![spine(questions()).into()], views, options).unwrap_err();
    assert!(error.to_string().starts_with("could not make a directory for temporary files: "), "{error}");
}

#[test]
fn a_file_cut_short_is_refused() {
    let whole = file(&rows(), 3_000, EnabledStatistics::Chunk);
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        let error = Part::parquet("cut.parquet", Arc::new(whole.slice(..length))).unwrap_err();
        assert!(error.to_string().starts_with("could not read cut.parquet: "), "{error}");
    }
}

#[test]
fn a_join_written_as_parquet_reads_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("rows.parquet");
    fs::write(&source, file(&rows(), 3_000, EnabledStatistics::Chunk)).unwrap();
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let part = Part::parquet("rows", Arc::new(LocalFile::open(&source).unwrap())).unwrap();
        let spine = Spine { parts: vec![spine(questions()).into()], timestamp: "at".into() };
        let options = Options { threads: 3, memory_bytes: 1 << 20, ..Options::default() };
        let join = Join::new(spine, vec![view(vec![part], &["x", "wide"], 0)], options).unwrap();
        let schema = join.schema();
        let mut bytes = Vec::new();
        assert_eq!(join.run().write_parquet(&mut bytes, compression).unwrap(), 30_000);
        let batches: Vec<_> =
            ParquetRecordBatchReader::try_new(Bytes::from(bytes), 1_000).unwrap().map(Result::unwrap).collect();
        let found = concat_batches(&schema, &batches).unwrap();
        assert_eq!(column(&found, "v__x"), expected());
    }
}
