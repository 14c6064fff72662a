//! What set-top boxes say in a quarter of an hour, the same for every run, with the faults of a real fleet: rows that come
//! late, twice, from a wrong clock or broken, and boxes that are silent.

use std::{fs::File, path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Float32Array, Int8Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt8Array,
        UInt16Array, UInt32Array,
    },
    datatypes::DataType,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Boxes at size 1.
pub const BOXES: usize = 20_000_000;
const BATCH: usize = 1 << 17;
const GROUP_ROWS: usize = 1 << 20;
/// 2026-01-01, in milliseconds.
const START: i64 = 1_767_225_600_000;
const QUARTER: i64 = 900_000;
/// Shares, in millions.
const SILENT: u32 = 30_000;
const LATE: u32 = 23_000;
const REPEATED: u32 = 5_000;
const WRONG_CLOCK: u32 = 500;
const MALFORMED: u32 = 1_000;

struct Columns {
    device: Vec<i64>,
    seq: Vec<u32>,
    event: Vec<Option<i64>>,
    received: Vec<i64>,
    small: [Vec<u8>; 3],
    short: [Vec<u16>; 7],
    long: [Vec<u32>; 3],
    real: [Vec<f32>; 4],
    region: Vec<i8>,
    text: [Vec<&'static str>; 3],
}

const MODELS: [&str; 5] = ["STB-100", "STB-200", "STB-210", "STB-300", "STB-300X"];
const FIRMWARE: [&str; 6] = ["4.1.0", "4.1.2", "4.2.0", "5.0.0-rc1", "5.0.0", "5.0.1"];
const POWER: [&str; 3] = ["on", "standby", "off"];
pub const SMALL: [&str; 3] = ["reboots", "cpu_pct", "disk_pct"];
pub const SHORT: [&str; 7] =
    ["channel", "watched_s", "channel_changes", "buffer_underruns", "tune_failures", "app_errors", "mem_free_mb"];
pub const LONG: [&str; 3] = ["fec_corrected", "fec_uncorrectable", "uptime_s"];
pub const REAL: [&str; 4] = ["snr_db", "rx_power_dbmv", "tx_power_dbmv", "temperature_c"];
pub const TEXT: [&str; 3] = ["model", "firmware", "power"];

/// The definitions: all columns, and what is served of them. `features` is how many the view has.
pub fn definitions(view: &str, features: usize) -> Vec<Value> {
    let column = |name: &&str, kind: &str| json!({"name": name, "type": kind});
    let mut columns = vec![
        json!({"name": "device_id", "type": "int", "required": true}),
        json!({"name": "seq", "type": "int", "required": true}),
        json!({"name": "event_time", "type": "timestamp"}),
        json!({"name": "received_time", "type": "timestamp"}),
        json!({"name": "region", "type": "int"}),
    ];
    columns.extend(TEXT.iter().map(|name| column(name, "text")));
    columns.extend(REAL.iter().map(|name| column(name, "float")));
    columns.extend(SMALL.iter().chain(&SHORT).chain(&LONG).map(|name| column(name, "int")));
    let kept = REAL.iter().chain(&SHORT).chain(&LONG).chain(&SMALL).chain(&TEXT).take(features);
    vec![
        json!({"kind": "Entity", "name": "device_id", "key": "device_id", "type": "int"}),
        json!({"kind": "Source", "name": "telemetry", "timestamp": "event_time", "created": "received_time",
            "row_id": ["device_id", "seq"], "columns": columns}),
        json!({"kind": "FeatureView", "name": view, "source": "telemetry", "entities": ["device_id"],
            "features": kept.map(|name| json!({"name": name})).collect::<Vec<_>>()}),
    ]
}

/// Writes one chunk of `boxes` boxes; gives its rows.
pub fn generate(path: &Path, boxes: usize) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("a level")))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let mut writer: Option<ArrowWriter<File>> = None;
    let mut rows = 0;
    for first in (0..boxes).step_by(BATCH) {
        let batch = batch(&mut rng, first..(first + BATCH).min(boxes));
        rows += batch.num_rows();
        let writer = writer.get_or_insert_with(|| {
            let file = File::create(path).expect("a file");
            ArrowWriter::try_new(file, batch.schema(), Some(properties.clone())).expect("a writer")
        });
        writer.write(&batch).expect("rows are written");
    }
    writer.map(|writer| writer.close().expect("the file is closed"));
    rows
}

fn batch(rng: &mut ChaCha8Rng, boxes: std::ops::Range<usize>) -> RecordBatch {
    let mut all = Columns {
        device: vec![],
        seq: vec![],
        event: vec![],
        received: vec![],
        small: Default::default(),
        short: Default::default(),
        long: Default::default(),
        real: Default::default(),
        region: vec![],
        text: Default::default(),
    };
    for device in boxes {
        let fate = rng.random_range(0..1_000_000);
        if fate < SILENT {
            continue;
        }
        let fault = rng.random_range(0..1_000_000);
        let on_time = START + rng.random_range(0..QUARTER);
        let (mut event, mut broken) = (Some(on_time), false);
        match fault {
            f if f < LATE => event = Some(on_time - rng.random_range(1..24 * 4 * QUARTER)),
            f if f < LATE + WRONG_CLOCK => event = Some(if f % 2 == 0 { 0 } else { on_time + 400 * 86_400_000 }),
            f if f < LATE + WRONG_CLOCK + MALFORMED => broken = true,
            _ => {}
        }
        if broken && device % 2 == 0 {
            event = None;
        }
        let twice = rng.random_range(0..1_000_000) < REPEATED;
        let start = all.device.len();
        push(&mut all, rng, device, event, on_time, broken);
        if twice {
            repeat(&mut all, start);
        }
    }
    record(all)
}

fn push(all: &mut Columns, rng: &mut ChaCha8Rng, device: usize, event: Option<i64>, on_time: i64, broken: bool) {
    all.device.push(1_000_000_000 + i64::try_from(device).expect("few boxes") * 7);
    all.seq.push(4_711 + u32::try_from(device % 1_000).expect("small"));
    all.event.push(event);
    all.received.push(on_time + rng.random_range(50..3_000));
    all.region.push(i8::try_from(device % 24).expect("small"));
    for values in &mut all.small {
        values.push(rng.random_range(0..100));
    }
    for values in &mut all.short {
        values.push(rng.random_range(0..900));
    }
    for values in &mut all.long {
        values.push(rng.random_range(0..60_000));
    }
    for values in &mut all.real {
        values.push(f32::from(rng.random_range(-200i16..400)) / 10.0);
    }
    if broken && event.is_some() {
        *all.real[0].last_mut().expect("just pushed") = f32::NAN;
    }
    let pick = |rng: &mut ChaCha8Rng, names: &[&'static str]| names[rng.random_range(0..names.len())];
    for (values, names) in all.text.iter_mut().zip([MODELS.as_slice(), &FIRMWARE, &POWER]) {
        values.push(pick(rng, names));
    }
}

fn repeat(all: &mut Columns, row: usize) {
    fn again<T: Copy>(values: &mut Vec<T>, row: usize) {
        values.push(values[row]);
    }
    again(&mut all.device, row);
    again(&mut all.seq, row);
    again(&mut all.event, row);
    again(&mut all.received, row);
    again(&mut all.region, row);
    all.small.iter_mut().for_each(|values| again(values, row));
    all.short.iter_mut().for_each(|values| again(values, row));
    all.long.iter_mut().for_each(|values| again(values, row));
    all.real.iter_mut().for_each(|values| again(values, row));
    all.text.iter_mut().for_each(|values| again(values, row));
}

fn record(all: Columns) -> RecordBatch {
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("device_id", Arc::new(Int64Array::from(all.device))),
        ("seq", Arc::new(UInt32Array::from(all.seq))),
        ("event_time", Arc::new(TimestampMillisecondArray::from(all.event).with_timezone("UTC"))),
        ("received_time", Arc::new(TimestampMillisecondArray::from(all.received).with_timezone("UTC"))),
        ("region", Arc::new(Int8Array::from(all.region))),
    ];
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for (name, values) in TEXT.into_iter().zip(all.text) {
        let texts: ArrayRef = Arc::new(StringArray::from(values));
        columns.push((name, arrow::compute::cast(&texts, &dictionary).expect("texts")));
    }
    columns.extend(REAL.into_iter().zip(all.real).map(|(n, v)| (n, Arc::new(Float32Array::from(v)) as ArrayRef)));
    columns.extend(SMALL.into_iter().zip(all.small).map(|(n, v)| (n, Arc::new(UInt8Array::from(v)) as ArrayRef)));
    columns.extend(SHORT.into_iter().zip(all.short).map(|(n, v)| (n, Arc::new(UInt16Array::from(v)) as ArrayRef)));
    columns.extend(LONG.into_iter().zip(all.long).map(|(n, v)| (n, Arc::new(UInt32Array::from(v)) as ArrayRef)));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, v)| (n, v, true))).expect("a batch")
}
