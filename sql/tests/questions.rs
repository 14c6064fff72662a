//! Questions over tables in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow::{
    array::{ArrayRef, AsArray as _, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{Float64Type, Int64Type, SchemaRef},
};
use async_trait::async_trait;
use domain::{Coded as _, ErrorCode};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sql::{Batches, Catalogue, Engine, Fault, Limits, Rows, Scan, SqlError};
use tempfile::TempDir;

/// A table in memory that remembers what was asked of it.
struct Table {
    batches: Vec<RecordBatch>,
    asked: Mutex<Vec<Scan>>,
    fault: Option<Fault>,
}

#[async_trait]
impl Rows for Table {
    fn schema(&self) -> SchemaRef {
        self.batches[0].schema()
    }

    fn time(&self) -> Option<&str> {
        Some("at")
    }

    async fn scan(&self, scan: Scan) -> Result<Batches, Fault> {
        self.asked.lock().unwrap().push(scan.clone());
        let fault = self.fault.clone().map(Err);
        let batches = self.batches.clone().into_iter().map(move |batch| Ok(batch.project(&scan.columns).unwrap()));
        Ok(stream::iter(batches.chain(fault)).boxed())
    }
}

/// A table that never ends.
struct Endless(SchemaRef, RecordBatch);

#[async_trait]
impl Rows for Endless {
    fn schema(&self) -> SchemaRef {
        self.0.clone()
    }

    async fn scan(&self, scan: Scan) -> Result<Batches, Fault> {
        let batch = self.1.project(&scan.columns).unwrap();
        Ok(stream::repeat_with(move || Ok(batch.clone())).boxed())
    }
}

#[derive(Default)]
struct House(BTreeMap<(String, String), Arc<dyn Rows>>);

impl House {
    fn with(mut self, schema: &str, name: &str, rows: Arc<dyn Rows>) -> Self {
        self.0.insert((schema.into(), name.into()), rows);
        self
    }
}

#[async_trait]
impl Catalogue for House {
    fn schemas(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.keys().map(|(schema, _)| schema.clone()).collect();
        names.dedup();
        names
    }

    fn tables(&self, schema: &str) -> Vec<String> {
        self.0.keys().filter(|(known, _)| known == schema).map(|(_, name)| name.clone()).collect()
    }

    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn Rows>>, Fault> {
        Ok(self.0.get(&(schema.to_owned(), table.to_owned())).cloned())
    }
}

/// `n` rows: id 0.., who w0..w2, x = id / 2, at = id seconds.
fn batch(n: i64) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..n))),
        ("who", Arc::new(StringArray::from_iter_values((0..n).map(|id| format!("w{}", id % 3))))),
        ("x", Arc::new(Float64Array::from_iter_values((0..n).map(|id| id as f64 / 2.0)))),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from_iter_values((0..n).map(|id| id * 1_000_000)).with_timezone("UTC")),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn table(n: i64) -> Arc<Table> {
    Arc::new(Table { batches: vec![batch(n)], asked: Mutex::default(), fault: None })
}

struct World {
    engine: Engine,
    house: Arc<dyn Catalogue>,
    dir: TempDir,
}

fn world(limits: impl FnOnce(&mut Limits), house: House) -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut set = Limits {
        memory_bytes: 64 << 20,
        temporary: dir.path().join("sql"),
        at_once: 2,
        threads: 2,
        deadline: Duration::from_secs(60),
    };
    limits(&mut set);
    World { engine: Engine::start(set).unwrap(), house: Arc::new(house), dir }
}

impl World {
    async fn ask(&self, sql: &str, values: Option<RecordBatch>) -> Result<RecordBatch, SqlError> {
        let answer = self.engine.ask(self.house.clone(), sql, values).await?;
        let schema = answer.schema();
        let batches: Vec<RecordBatch> = answer.try_collect().await?;
        Ok(arrow::compute::concat_batches(&schema, &batches).unwrap())
    }

    async fn ints(&self, sql: &str) -> Vec<i64> {
        self.ask(sql, None).await.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()
    }

    async fn refusal(&self, sql: &str) -> (ErrorCode, String) {
        let error = self.ask(sql, None).await.expect_err(sql);
        (error.code(), error.to_string())
    }
}

#[tokio::test]
async fn groups_joins_and_windows_are_answered() {
    let world = world(|_| {}, House::default().with("public", "t", table(9)).with("sources", "pump-a", table(3)));
    assert_eq!(world.ints("SELECT sum(id) FROM t GROUP BY who ORDER BY who").await, [9, 12, 15]);
    assert_eq!(
        world.ints("SELECT t.id FROM t JOIN sources.\"pump-a\" s ON s.id = t.id ORDER BY 1 DESC").await,
        [2, 1, 0]
    );
    assert_eq!(
        world.ints("SELECT row_number() OVER (ORDER BY id DESC)::BIGINT FROM t ORDER BY id LIMIT 2").await,
        [9, 8]
    );
    let means = world.ask("SELECT avg(x) FROM t", None).await.unwrap();
    assert!((means.column(0).as_primitive::<Float64Type>().value(0) - 2.0).abs() < 1e-12);
}

#[tokio::test]
async fn only_the_wanted_columns_and_times_are_read() {
    let rows = table(100);
    let world = world(|_| {}, House::default().with("public", "t", rows.clone()));
    let sql = "SELECT x FROM t WHERE at >= TIMESTAMP '1970-01-01T00:00:10Z' AND at < TIMESTAMP '1970-01-01T00:00:13Z'";
    assert_eq!(world.ask(sql, None).await.unwrap().num_rows(), 3);
    let asked = rows.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].columns.len(), asked[0].from, asked[0].to), (2, 10_000_000, 13_000_000));
    rows.asked.lock().unwrap().clear();
    assert_eq!(world.ints("SELECT count(*) FROM t").await, [100]);
    assert_eq!(rows.asked.lock().unwrap()[0].columns, Vec::<usize>::new());
}

#[tokio::test]
async fn values_stand_in_both_kinds_of_places() {
    let world = world(|_| {}, House::default().with("public", "t", table(9)));
    let values = |id: i64, who: &str| {
        let columns: [(&str, ArrayRef); 2] =
            [("1", Arc::new(Int64Array::from(vec![id]))), ("2", Arc::new(StringArray::from(vec![who])))];
        Some(RecordBatch::try_from_iter(columns).unwrap())
    };
    for sql in ["SELECT id FROM t WHERE id > ? AND who = ?", "SELECT id FROM t WHERE who = $2 AND id > $1"] {
        let found = world.ask(sql, values(3, "w1")).await.unwrap();
        assert_eq!(found.column(0).as_primitive::<Int64Type>().values(), &[4, 7], "{sql}");
        let described = world.engine.describe(world.house.clone(), sql).await.unwrap();
        assert_eq!(described.parameters.fields().len(), 2);
        assert_eq!(described.schema.field(0).name(), "id");
        assert_eq!(world.ask(sql, None).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    }
    // A value is a value, whatever stands in it.
    let found = world.ask("SELECT id FROM t WHERE id > ? AND who = ?", values(0, "w1' OR '1'='1")).await.unwrap();
    assert_eq!(found.num_rows(), 0);
}

#[tokio::test]
async fn nothing_is_written_and_no_file_is_read() {
    let world = world(|_| {}, House::default().with("public", "t", table(3)));
    let file = world.dir.path().join("secret.csv");
    std::fs::write(&file, "a,b\n1,2\n").unwrap();
    let named = file.display();
    for sql in [
        "CREATE TABLE u AS SELECT * FROM t".to_owned(),
        "CREATE VIEW u AS SELECT * FROM t".to_owned(),
        "DROP TABLE t".to_owned(),
        "INSERT INTO t SELECT * FROM t".to_owned(),
        "DELETE FROM t".to_owned(),
        "UPDATE t SET id = 1".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        format!("COPY t TO '{named}.out'"),
        format!("CREATE EXTERNAL TABLE u STORED AS CSV LOCATION '{named}'"),
        format!("SELECT * FROM '{named}'"),
        format!("SELECT * FROM \"{named}\""),
        "SELECT 1; SELECT 2".to_owned(),
        "SELEC 1".to_owned(),
        "SELECT nothing FROM t".to_owned(),
        "SELECT 1 FROM nowhere".to_owned(),
        "SELECT 1 / 0".to_owned(),
        "SELECT CAST('x' AS BIGINT)".to_owned(),
        String::new(),
    ] {
        let (code, said) = world.refusal(&sql).await;
        assert_eq!(code, ErrorCode::InvalidArgument, "{sql}: {said}");
        assert!(!said.contains('\n') && !said.is_empty(), "{sql}: {said}");
    }
    assert_eq!(std::fs::read_dir(world.dir.path()).unwrap().count(), 2, "the file and the engine's own directory");
}

#[tokio::test]
async fn tables_are_listed_with_their_columns() {
    let world = world(|_| {}, House::default().with("public", "t", table(3)).with("sources", "s", table(3)));
    let sql = "SELECT table_schema || '.' || table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' ORDER BY 1";
    let found = world.ask(sql, None).await.unwrap();
    let names: Vec<&str> = found.column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!(names, ["public.t", "sources.s"]);
    assert_eq!(world.ask("DESCRIBE t", None).await.unwrap().num_rows(), 4);
    assert!(world.ask("EXPLAIN SELECT id FROM t", None).await.unwrap().num_rows() > 0);
}

#[tokio::test]
async fn members_of_json_texts_are_read() {
    let texts: ArrayRef =
        Arc::new(StringArray::from(vec![Some(r#"{"a": 1.5, "b": "x", "c": true, "d": 7}"#), Some("no json"), None]));
    let rows = Arc::new(Table {
        batches: vec![RecordBatch::try_from_iter([("inputs", texts)]).unwrap()],
        asked: Mutex::default(),
        fault: None,
    });
    let world = world(|_| {}, House::default().with("public", "p", rows));
    let sql = "SELECT json_get_float(inputs, 'a'), json_get_str(inputs, 'b'), json_get_bool(inputs, 'c'), json_get_int(inputs, 'd'),
               json_get_str(inputs, 'a') FROM p";
    let found = world.ask(sql, None).await.unwrap();
    let shown = |column: usize| -> Vec<String> {
        let text = arrow::compute::cast(found.column(column), &arrow::datatypes::DataType::Utf8).unwrap();
        text.as_string::<i32>().iter().map(|cell| cell.unwrap_or("-").to_owned()).collect()
    };
    assert_eq!(shown(0), ["1.5", "-", "-"]);
    assert_eq!(shown(1), ["x", "-", "-"]);
    assert_eq!(shown(2), ["true", "-", "-"]);
    assert_eq!(shown(3), ["7", "-", "-"]);
    assert_eq!(shown(4), ["-", "-", "-"]);
}

#[tokio::test]
async fn a_table_that_fails_says_so_in_its_own_words() {
    let fault = Fault { code: ErrorCode::Conflict, message: "kept by another server".into(), hint: "ask there".into() };
    let rows = Arc::new(Table { batches: vec![batch(10)], asked: Mutex::default(), fault: Some(fault) });
    let world = world(|_| {}, House::default().with("public", "t", rows));
    for sql in ["SELECT count(*) FROM t", "SELECT a.id FROM t a JOIN t b ON a.id = b.id ORDER BY a.x"] {
        assert_eq!(world.refusal(sql).await, (ErrorCode::Conflict, "kept by another server".into()), "{sql}");
    }
}

#[tokio::test]
async fn a_query_ends_at_its_deadline_and_when_nobody_listens() {
    let endless: Arc<dyn Rows> = Arc::new(Endless(batch(1).schema(), batch(1000)));
    let world =
        world(|limits| limits.deadline = Duration::from_millis(300), House::default().with("public", "t", endless));
    let (code, said) = world.refusal("SELECT sum(x) FROM t").await;
    assert_eq!(code, ErrorCode::DeadlineExceeded, "{said}");

    // Both seats and both places to wait are taken by answers that nobody fetches; dropping them frees all four.
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(world.engine.ask(world.house.clone(), "SELECT x FROM t", None).await.unwrap());
    }
    drop(held);
    let found = world.engine.ask(world.house.clone(), "SELECT x FROM t LIMIT 5", None).await.unwrap();
    let rows: usize =
        found.map_ok(|batch| batch.num_rows()).try_fold(0, async |sum, rows| Ok(sum + rows)).await.unwrap();
    assert_eq!(rows, 5);
}

#[tokio::test]
async fn more_queries_than_may_wait_are_refused() {
    let endless: Arc<dyn Rows> = Arc::new(Endless(batch(1).schema(), batch(1000)));
    let world = world(|limits| limits.at_once = 1, House::default().with("public", "t", endless));
    let running = world.engine.ask(world.house.clone(), "SELECT x FROM t", None).await.unwrap();
    // One of two finds the only place to wait, the other none.
    let ask = || Box::pin(world.engine.ask(world.house.clone(), "SELECT 1", None));
    let (refused, waiting) = match futures::future::select(ask(), ask()).await {
        futures::future::Either::Left((first, other)) | futures::future::Either::Right((first, other)) => {
            (first, other)
        }
    };
    assert_eq!(refused.err().map(|error| error.code()), Some(ErrorCode::Overloaded));
    drop(running);
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn what_does_not_fit_in_memory_waits_on_disk_or_is_refused() {
    let many: Vec<RecordBatch> = (0..200).map(|_| batch(8_192)).collect();
    let rows = Arc::new(Table { batches: many, asked: Mutex::default(), fault: None });
    let world = world(|limits| limits.memory_bytes = 24 << 20, House::default().with("public", "t", rows));
    let sorted =
        world.engine.ask(world.house.clone(), "SELECT id, who, x FROM t ORDER BY x, who, id", None).await.unwrap();
    let (mut rows, mut last) = (0, f64::MIN);
    for batch in sorted.try_collect::<Vec<_>>().await.unwrap() {
        for x in batch.column(2).as_primitive::<Float64Type>().values() {
            assert!(*x >= last);
            last = *x;
        }
        rows += batch.num_rows();
    }
    assert_eq!(rows, 200 * 8_192);
    // Texts of one group have to be held together.
    let (code, said) = world.refusal("SELECT length(string_agg(repeat(who, 40), ',')) FROM t").await;
    assert_eq!(code, ErrorCode::TooLarge, "{said}");
}
