//! The tables of the question, the same for every seed: a spine and three views, as a shop would have them.
//!
//! At size 1: one million rows of the spine and ten million of the views over 90 days, 100,000 users with five items
//! each of 50,000. Rows stand about in order of time, up to an hour late, as logs do; or, as our own tables keep them,
//! sorted by key and time.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
    compute::{concat_batches, take_record_batch},
};
use feature_store::join::{Feature, JoinKey, JoinView, LocalFile, Mode, Part, Spine};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

const DAY: i64 = 86_400_000_000;
const SPAN: i64 = 90 * DAY;
/// 2026-01-01, in microseconds.
const START: i64 = 1_767_225_600_000_000;
const HOUR: u64 = 3_600_000_000;
const BATCH: usize = 1 << 17;

/// One view: rows and keys at size 1, features, and time to live in days.
pub struct Shape {
    pub name: &'static str,
    rows: usize,
    pub keys: &'static [&'static str],
    pub features: usize,
    pub ttl_days: i64,
}

pub const VIEWS: [Shape; 3] = [
    Shape { name: "user", rows: 6_000_000, keys: &["user_id"], features: 8, ttl_days: 0 },
    Shape { name: "item", rows: 3_000_000, keys: &["item_id"], features: 7, ttl_days: 7 },
    Shape { name: "pair", rows: 1_000_000, keys: &["user_id", "item_id"], features: 6, ttl_days: 30 },
];
const SPINE_ROWS: usize = 1_000_000;
const USERS: usize = 100_000;
const ITEMS: u64 = 50_000;
const ITEMS_OF_A_USER: u64 = 5;

/// How large, in hundredths of size 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub usize);

impl Size {
    fn of(self, rows: usize) -> usize {
        rows / 100 * self.0
    }

    pub fn spine_rows(self) -> usize {
        self.of(SPINE_ROWS)
    }

    pub fn view_rows(self) -> usize {
        VIEWS.iter().map(|view| self.of(view.rows)).sum()
    }

    fn users(self) -> u64 {
        self.of(USERS).max(10) as u64
    }
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A user and one of the items that he looks at.
fn pair(chance: &mut Chance, size: Size) -> (i64, i64) {
    let user = chance.below(size.users());
    let mut item = Chance(user * ITEMS_OF_A_USER + chance.below(ITEMS_OF_A_USER));
    (user.cast_signed(), item.below(ITEMS).cast_signed())
}

fn batch(chance: &mut Chance, size: Size, shape: Option<&Shape>, first: usize, rows: usize, all: usize) -> RecordBatch {
    let pairs: Vec<(i64, i64)> = (0..rows).map(|_| pair(chance, size)).collect();
    let step = SPAN as f64 / all as f64;
    let at =
        |n: usize, chance: &mut Chance| START + ((first + n) as f64 * step) as i64 + chance.below(HOUR).cast_signed();
    let times: TimestampMicrosecondArray = (0..rows).map(|n| Some(at(n, chance))).collect();
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    // One question in a hundred knows no item.
    let nulls = shape.is_none();
    if nulls {
        columns
            .push(("row_id".into(), Arc::new((first..first + rows).map(|n| Some(n as i64)).collect::<Int64Array>())));
    }
    let has = |key: &str| shape.is_none_or(|shape| shape.keys.contains(&key));
    if has("user_id") {
        columns.push(("user_id".into(), Arc::new(pairs.iter().map(|(user, _)| Some(*user)).collect::<Int64Array>())));
    }
    if has("item_id") {
        let item = |(_, item): &(i64, i64)| (!nulls || chance.below(100) > 0).then_some(*item);
        columns.push(("item_id".into(), Arc::new(pairs.iter().map(item).collect::<Int64Array>())));
    }
    columns.push(("event_timestamp".into(), Arc::new(times.with_timezone("UTC"))));
    for feature in 0..shape.map_or(0, |shape| shape.features) {
        // Thousandths, one in fifty not known.
        let value = |chance: &mut Chance| (chance.below(50) > 0).then(|| chance.below(1_000_000) as f64 / 1_000.0);
        let values: Float64Array = (0..rows).map(|_| value(chance)).collect();
        columns.push((format!("f{feature}"), Arc::new(values)));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length")
}

fn batches(size: Size, shape: Option<&'static Shape>) -> impl Iterator<Item = RecordBatch> {
    let all = size.of(shape.map_or(SPINE_ROWS, |shape| shape.rows));
    let seed = shape.map_or(0, |shape| shape.rows as u64);
    let mut chance = Chance(20_261_126 ^ seed);
    (0..all).step_by(BATCH).map(move |first| batch(&mut chance, size, shape, first, BATCH.min(all - first), all))
}

fn writer(path: &Path, batch: &RecordBatch, floats_repeat: bool) -> ArrowWriter<File> {
    let mut properties =
        WriterProperties::builder().set_compression(Compression::SNAPPY).set_max_row_group_row_count(Some(BATCH));
    if !floats_repeat {
        for field in batch.schema().fields().iter().filter(|field| field.name().starts_with('f')) {
            properties = properties.set_column_dictionary_enabled(field.name().as_str().into(), false);
        }
    }
    let file = File::create(path).expect("a file for the data");
    ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).expect("a Parquet writer")
}

/// Where a table lies.
pub fn path(dir: &Path, name: &str, sorted: bool) -> PathBuf {
    dir.join(if sorted { format!("{name}.sorted.parquet") } else { format!("{name}.parquet") })
}

fn write(path: &Path, mut batches: impl Iterator<Item = RecordBatch>, floats_repeat: bool) {
    let first = batches.next().expect("every table has rows");
    let mut writer = writer(path, &first, floats_repeat);
    for batch in std::iter::once(first).chain(batches) {
        writer.write(&batch).expect("the data are written");
    }
    writer.close().expect("the data are written");
}

/// Writes the spine and the views, and the views sorted where that is wanted.
pub fn generate(dir: &Path, size: Size, sorted: bool) {
    write(&path(dir, "spine", false), batches(size, None), true);
    for shape in &VIEWS {
        write(&path(dir, shape.name, false), batches(size, Some(shape)), true);
        if sorted {
            let all: Vec<RecordBatch> = batches(size, Some(shape)).collect();
            let all = concat_batches(&all[0].schema(), &all).expect("equal columns");
            let word = |name: &str| {
                let array =
                    arrow::compute::cast(all.column_by_name(name).expect("a key"), &arrow::datatypes::DataType::Int64);
                arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&array.expect("a number"))
                    .values()
                    .clone()
            };
            let keys: Vec<_> = shape.keys.iter().chain(&["event_timestamp"]).map(|name| word(name)).collect();
            let mut order: Vec<u64> = (0..all.num_rows() as u64).collect();
            order.sort_unstable_by_key(|row| keys.iter().map(|key| key[*row as usize]).collect::<Vec<_>>());
            let ordered = take_record_batch(&all, &arrow::array::UInt64Array::from(order)).expect("rows in order");
            drop(all);
            let slices = (0..ordered.num_rows()).step_by(BATCH);
            let slices = slices.map(|at| ordered.slice(at, BATCH.min(ordered.num_rows() - at)));
            write(&path(dir, shape.name, true), slices, false);
        }
    }
}

fn part(path: &Path) -> Part {
    let file = LocalFile::open(path).expect("the data are there");
    Part::parquet(path.display().to_string(), Arc::new(file)).expect("a Parquet file")
}

pub fn spine(dir: &Path) -> Spine {
    Spine { parts: vec![part(&path(dir, "spine", false))], timestamp: "event_timestamp".into() }
}

pub fn views(dir: &Path, sorted: bool) -> Vec<JoinView> {
    let view = |shape: &Shape| JoinView {
        name: shape.name.into(),
        parts: vec![part(&path(dir, shape.name, sorted))],
        keys: shape.keys.iter().map(|key| JoinKey::same(key)).collect(),
        timestamp: "event_timestamp".into(),
        created: None,
        sequence: None,
        ttl_micros: shape.ttl_days * DAY,
        mode: Mode::Plain,
        features: (0..shape.features)
            .map(|n| Feature { column: format!("f{n}"), name: format!("{}__f{n}", shape.name), data_type: None })
            .collect(),
        newest: None,
    };
    VIEWS.iter().map(view).collect()
}

/// With commas.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}
