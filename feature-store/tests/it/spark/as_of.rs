//! The cases of the own engine as SQL: ties, nulls, units, keys, mode `known`, numbers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimeUnit};
use feature_store::{Spark, remote::AsOf};
use proptest::prelude::*;
use spark::{Relation, Session};

use super::cases;
use crate::{
    engine::{
        property::{questions, view},
        reference::{Question, Row, View, answer, tick},
    },
    spark_server::SparkServer,
};

fn ints(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(values))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

/// The view's rows with instants in nanoseconds and numbers that never tie.
fn rows(view: &View) -> RecordBatch {
    let counts = |place: usize| match &view.numbers {
        Some((numbers, _, gone)) => !gone.contains(&numbers[place]),
        None => true,
    };
    let standing: Vec<(usize, &Row)> = view.rows.iter().enumerate().filter(|(place, _)| counts(*place)).collect();
    let number = |place: usize| view.numbers.as_ref().map_or(0, |(numbers, ..)| numbers[place]) * 1_000 + place as i64;
    let each = |of: &dyn Fn(&(usize, &Row)) -> Option<i64>| ints(standing.iter().map(of));
    RecordBatch::try_from_iter_with_nullable([
        ("key a", each(&|(_, row)| row.a), true),
        ("key`b", texts(standing.iter().map(|(_, row)| row.b)), true),
        ("time", each(&|(_, row)| row.at.map(|at| at * tick(view.unit))), true),
        ("created", each(&|(_, row)| row.created.map(|at| at * tick(view.created_unit))), true),
        ("number", each(&|(place, _)| Some(number(*place))), true),
        ("x", each(&|(_, row)| row.x), true),
    ])
    .unwrap()
}

fn spine(questions: &[Question], unit: TimeUnit, both: bool) -> RecordBatch {
    let mut columns = vec![
        ("n", ints((0..questions.len() as i64).map(Some)), true),
        ("a", ints(questions.iter().map(|q| q.at.map(|at| at * tick(unit)))), true),
        ("k0", ints(questions.iter().map(|q| q.a)), true),
    ];
    columns.extend(both.then(|| ("k1", texts(questions.iter().map(|q| q.b)), true)));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

async fn agrees(
    session: &mut Session,
    view: &View,
    unit: TimeUnit,
    questions: &[Question],
) -> Result<(), TestCaseError> {
    session.view("rows", Relation::Rows(rows(view))).await.unwrap();
    session.view("questions", Relation::Rows(spine(questions, unit, view.both_keys))).await.unwrap();
    let mut keys = vec!["`key a`".to_owned()];
    keys.extend(view.both_keys.then(|| "`key``b`".to_owned()));
    let below = view.numbers.as_ref().and_then(|(_, below, _)| *below).map_or(i64::MAX, |below| below * 1_000);
    let asked = AsOf {
        table: "rows".into(),
        keys,
        time: "time".into(),
        created: view.has_created.then(|| "created".into()),
        number: "number".into(),
        below,
        replaces: None,
        known: view.known,
        features: vec!["x".into(), "`key``b`".into()],
    };
    let mut found: HashMap<i64, (i64, Option<i64>, Option<String>)> = HashMap::new();
    let mut answer_rows = session.query(&asked.sql("questions")).await.unwrap();
    while let Some(batch) = answer_rows.next().await.unwrap() {
        let ints = |name: &str| batch[name].as_primitive::<Int64Type>().clone();
        let (n, t, x) = (ints("n"), ints("t"), ints("f0"));
        let text = arrow::compute::cast(&batch["f1"], &arrow::datatypes::DataType::Utf8).unwrap();
        let text = text.as_string::<i32>();
        for row in 0..batch.num_rows() {
            let x = x.iter().nth(row).flatten();
            let b = text.iter().nth(row).flatten().map(str::to_owned);
            prop_assert!(found.insert(n.value(row), (t.value(row), x, b)).is_none(), "a question came out twice");
        }
    }
    for (place, question) in questions.iter().enumerate() {
        let expected = answer(view, question, unit).0;
        let expected = expected.map(|row| (row.at.unwrap() * tick(view.unit), row.x, row.b.map(str::to_owned)));
        prop_assert_eq!(found.get(&(place as i64)), expected.as_ref(), "{:?} of {:?}", question, view);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(40))]
    #[test]
    fn the_query_and_the_reference_agree_in_ansi_mode_and_out_of_it(
        (unit, questions) in questions(),
        views in prop::collection::vec(view(), 1..3),
        ansi in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let address = SparkServer::shared().address.parse().unwrap();
            let spark = Spark::new(address, None, Duration::from_secs(60)).unwrap();
            let mut session = spark.session();
            session.set(&[("spark.sql.ansi.enabled", if ansi { "true" } else { "false" })]).await.unwrap();
            for view in &views {
                agrees(&mut session, view, unit, &questions).await?;
            }
            session.close().await;
            Ok::<(), TestCaseError>(())
        })?;
    }
}
