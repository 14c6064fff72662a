//! Whatever the rows, units, parts, ties, memory and hashes: the engine and the reference agree.

use std::collections::HashSet;

use arrow::datatypes::{DataType, TimeUnit};
use feature_store::join::{Options, Part};
use parquet::file::properties::EnabledStatistics;
use proptest::{prelude::*, sample::select, test_runner::RngSeed};

use super::reference::{Question, Row, UNITS, View, answer, column, file, joined, spine, text, tick};

/// Halves and wholes of a second around 1970, some off by one tick.
fn instant(unit: TimeUnit) -> impl Strategy<Value = Option<i64>> {
    let near = (-8..24i64, prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(-1)]);
    prop::option::weighted(
        0.95,
        near.prop_map(move |(halves, off)| (halves * 500_000_000).div_euclid(tick(unit)) + off),
    )
}

fn a_key() -> impl Strategy<Value = Option<i64>> {
    prop::option::weighted(0.9, select(vec![0, 1, 2, 3, -1]))
}

fn b_key() -> impl Strategy<Value = Option<&'static str>> {
    prop::option::weighted(
        0.9,
        select(vec!["", "b", "a key longer than twelve bytes", "a key longer than twelve byteS"]),
    )
}

fn row(unit: TimeUnit, created: TimeUnit) -> impl Strategy<Value = Row> {
    (a_key(), b_key(), instant(unit), instant(created), prop::option::of(0..1_000i64))
        .prop_map(|(a, b, at, created, x)| Row { a, b, at, created, x })
}

pub fn view() -> impl Strategy<Value = View> {
    (select(UNITS.to_vec()), select(UNITS.to_vec()))
        .prop_flat_map(|(unit, created)| (Just((unit, created)), prop::collection::vec(row(unit, created), 0..120)))
        .prop_flat_map(|((unit, created_unit), rows)| {
            let numbered = prop::collection::vec(0..60i64, rows.len());
            let which = (numbered, prop::option::of(20..60i64), prop::collection::hash_set(0..60i64, 0..20));
            let types = (
                select(vec![DataType::Int64, DataType::Int32, DataType::Int8]),
                select(vec![
                    DataType::Utf8,
                    DataType::LargeUtf8,
                    DataType::Utf8View,
                    DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into()),
                ]),
            );
            let how = (any::<bool>(), any::<bool>(), any::<bool>());
            let ttl = select(vec![0, 1, 500_000, 1_000_000, 1_500_000, 4_000_000, i64::MAX]);
            let statistics = select(vec![EnabledStatistics::None, EnabledStatistics::Chunk, EnabledStatistics::Page]);
            let cuts = prop::collection::vec((any::<usize>(), any::<bool>()), 0..3);
            (Just(rows), how, types, ttl, prop::option::of(which), cuts, 1..40usize, statistics).prop_map(
                move |(
                    rows,
                    (both_keys, has_created, known),
                    (a_type, b_type),
                    ttl,
                    numbers,
                    cuts,
                    group_rows,
                    statistics,
                )| {
                    let numbers = numbers.map(|(n, below, gone): (Vec<i64>, _, HashSet<i64>)| (n, below, gone));
                    let known = known && has_created;
                    View {
                        rows,
                        unit,
                        created_unit,
                        both_keys,
                        a_type,
                        b_type,
                        ttl,
                        known,
                        has_created,
                        numbers,
                        cuts,
                        group_rows,
                        statistics,
                    }
                },
            )
        })
}

pub fn questions() -> impl Strategy<Value = (TimeUnit, Vec<Question>)> {
    select(UNITS.to_vec()).prop_flat_map(|unit| {
        let question = (a_key(), b_key(), instant(unit)).prop_map(|(a, b, at)| Question { a, b, at });
        (Just(unit), prop::collection::vec(question, 0..300))
    })
}

fn options() -> impl Strategy<Value = Options> {
    (1..4usize, select(vec![0, 20_000, 60_000, 1 << 30]), 1..90usize, select(vec![0, 1, 64])).prop_map(
        |(threads, memory_bytes, batch_rows, hash_bits)| Options {
            threads,
            memory_bytes,
            batch_rows,
            hash_bits,
            ..Options::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(20_261_126),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn the_engine_and_the_reference_agree(
        (unit, questions) in questions(),
        views in prop::collection::vec(view(), 1..4),
        mut options in options(),
        cut in any::<usize>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        options.temporary = dir.path().to_owned();
        let cut = cut % (questions.len() + 1);
        let [first, rest] = [spine(&questions[..cut], unit, 0), spine(&questions[cut..], unit, cut as i64)];
        let rest = file(&rest, 70, EnabledStatistics::Chunk);
        let parts = vec![first.into(), Part::parquet("questions", std::sync::Arc::new(rest)).unwrap()];
        let asked = views.iter().enumerate().map(|(at, view)| view.asked(&format!("v{at}"))).collect();
        let found = joined(parts, asked, options).unwrap();
        prop_assert_eq!(found.num_rows(), questions.len());
        prop_assert_eq!(column(&found, "tag"), (0..questions.len() as i64).map(Some).collect::<Vec<_>>());
        prop_assert_eq!(column(&found, "at"), questions.iter().map(|q| q.at).collect::<Vec<_>>());
        prop_assert_eq!(column(&found, "a"), questions.iter().map(|q| q.a).collect::<Vec<_>>());
        for (at, view) in views.iter().enumerate() {
            let (xs, bs) = (column(&found, &format!("v{at}__x")), text(&found, &format!("v{at}__key_b")));
            let newest = column(&found, &format!("v{at}__at"));
            for (row, question) in questions.iter().enumerate() {
                let (any_age, chosen) = answer(view, question, unit);
                prop_assert_eq!(xs[row], chosen.and_then(|row| row.x), "x of {:?} in v{}", question, at);
                prop_assert_eq!(bs[row].as_deref(), chosen.and_then(|row| row.b), "b of {:?} in v{}", question, at);
                prop_assert_eq!(newest[row], any_age.and_then(|row| row.at), "time of {:?} in v{}", question, at);
            }
        }
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "temporary files are left");
    }
}
