//! Arrow Flight on the wire: our own tickets, Feast's older way in three calls, and what no client would send.

use std::sync::Arc;

use arrow::{
    array::{Array as _, AsArray as _, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray},
    datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit},
};
use arrow_flight::{
    FlightClient, FlightData, FlightDescriptor, Ticket, encode::FlightDataEncoderBuilder, error::FlightError,
    flight_service_client::FlightServiceClient,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tonic::{Code, Status, transport::Channel};

use crate::{support::Server, world};

const HOUR_NS: i64 = 3_600_000_000_000;
/// 2024-03-10T00:00:00Z.
const DAY_NS: i64 = 1_710_028_800_000_000_000;

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(server.url.clone()).expect("an address").connect().await.expect("there")
}

async fn client(server: &Server) -> FlightClient {
    FlightClient::new(channel(server).await)
}

/// A spine with nanoseconds and without a zone, as pandas makes it, and with something in its metadata.
fn spine(drivers: &[Option<i64>], hours: &[i64]) -> RecordBatch {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let fields = vec![Field::new("driver_id", DataType::Int64, true), Field::new("event_timestamp", time, true)];
    let schema = Schema::new_with_metadata(fields, [("pandas".to_owned(), "{}".to_owned())].into());
    let times: Vec<i64> = hours.iter().map(|hour| DAY_NS + hour * HOUR_NS).collect();
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int64Array::from(drivers.to_vec())), Arc::new(TimestampNanosecondArray::from(times))];
    RecordBatch::try_new(Arc::new(schema), columns).expect("a spine")
}

fn command(api: &str, more: Value) -> FlightDescriptor {
    let mut command = json!({"command_id": "c1", "api": api});
    command.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    FlightDescriptor::new_cmd(command.to_string())
}

fn historical(features: &[&str]) -> FlightDescriptor {
    let more = json!({"feature_refs": features, "feature_view_names": ["driver_stats"], "name_aliases": [null],
                      "project": "default", "full_feature_names": false});
    command("get_historical_features", more)
}

/// A table as it is sent under a descriptor.
fn messages(
    descriptor: &FlightDescriptor,
    table: RecordBatch,
) -> impl futures::Stream<Item = Result<FlightData, FlightError>> + Send + use<> {
    let encoder =
        FlightDataEncoderBuilder::new().with_schema(table.schema()).with_flight_descriptor(Some(descriptor.clone()));
    encoder.build(stream::iter([Ok(table)]))
}

async fn exchange(
    client: &mut FlightClient,
    descriptor: &FlightDescriptor,
    table: RecordBatch,
) -> Result<Vec<RecordBatch>, FlightError> {
    client.do_exchange(messages(descriptor, table)).await?.try_collect().await
}

/// What a refusal says: Feast's client looks for a JSON document behind these words.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, FlightError>, code: Code) -> String {
    let FlightError::Tonic(status) = answer.expect_err("refused") else { panic!("not a status") };
    told(&status, code)
}

#[track_caller]
fn told(status: &Status, code: Code) -> String {
    assert_eq!(status.code(), code, "{status:?}");
    let detail = status.message().strip_prefix("Flight error: ").unwrap_or_else(|| panic!("{}", status.message()));
    let detail: Value = serde_json::from_str(detail).expect("JSON");
    assert_eq!(detail["module"], "feast.errors");
    detail["message"].as_str().expect("a text").to_owned()
}

fn ingest(server: &Server) {
    let rows: Vec<Value> = (0..6)
        .map(|hour| json!({"driver_id": hour % 2, "trips": hour, "event_timestamp": format!("2024-03-10T0{hour}:00:00Z")}))
        .collect();
    server.ingest("driver_stats", "application/json", json!(rows).to_string().as_bytes()).ok();
}

#[tokio::test]
async fn a_spine_comes_back_as_it_was_with_features_behind_it() {
    let (server, _data) = world();
    ingest(&server);
    let asked = spine(&[Some(1), None, Some(0), Some(0), Some(7)], &[3, 3, -1, 400, 3]);
    let descriptor = historical(&["driver_stats:trips", "driver_stats:note"]);
    let answer = exchange(&mut client(&server).await, &descriptor, asked.clone()).await.expect("joined");
    let [table] = answer.as_slice() else { panic!("{answer:?}") };
    assert_eq!(table.schema().metadata(), asked.schema().metadata());
    assert_eq!(table.columns()[..2], asked.columns()[..]);
    let trips: Vec<Option<i64>> = table["trips"].as_primitive::<Int64Type>().iter().collect();
    // In time; no key; before the first row; later than the view's two days allow; nobody.
    assert_eq!(trips, [Some(3), None, None, None, None]);
    assert_eq!(table["note"].null_count(), 5);
}

#[tokio::test]
async fn the_older_way_in_three_calls_hands_each_table_out_once() {
    let (server, _data) = world();
    ingest(&server);
    let mut client = client(&server).await;
    let descriptor = historical(&["driver_stats:trips"]);
    refused(client.get_flight_info(descriptor.clone()).await, Code::NotFound);
    let put = client.do_put(messages(&descriptor, spine(&[Some(1)], &[3]))).await.expect("taken");
    put.try_collect::<Vec<_>>().await.expect("to its end");
    let info = client.get_flight_info(descriptor.clone()).await.expect("it waits");
    let [endpoint] = info.endpoint.as_slice() else { panic!("{info:?}") };
    let ticket = endpoint.ticket.clone().expect("a ticket");
    let table: Vec<RecordBatch> =
        client.do_get(ticket.clone()).await.expect("fetched").try_collect().await.expect("whole");
    assert_eq!(table[0]["trips"].as_primitive::<Int64Type>().value(0), 3);
    refused(client.do_get(ticket).await.map(drop), Code::NotFound);
}

#[tokio::test]
async fn streams_of_a_training_set_are_together_the_whole() {
    let (server, _data) = world();
    ingest(&server);
    let fares: Vec<Value> = (0..50)
        .map(|row| json!({"driver_id": row % 3, "zone": "n", "fare": f64::from(row), "event_timestamp": format!("2024-03-10T03:{row:02}:00Z")}))
        .collect();
    server.ingest("fares", "application/json", json!(fares).to_string().as_bytes()).ok();
    let mut client = client(&server).await;
    let wanted = json!({"service": "rides", "spine": "fares", "streams": 4});
    let info = client.get_flight_info(FlightDescriptor::new_cmd(wanted.to_string())).await.expect("known");
    assert_eq!(info.endpoint.len(), 4);
    let schema = info.clone().try_decode_schema().expect("a schema");
    let mut seen = Vec::new();
    for endpoint in info.endpoint {
        let mut rows = client.do_get(endpoint.ticket.expect("a ticket")).await.expect("fetched");
        while let Some(batch) = rows.next().await {
            let batch = batch.expect("whole");
            assert_eq!(batch.schema().fields(), schema.fields());
            seen.extend(batch["fare"].as_primitive::<Float64Type>().iter().flatten());
        }
    }
    assert_eq!(seen, (0..50).map(f64::from).collect::<Vec<_>>(), "each row once, in order of time");
    let flights: Vec<_> = client.list_flights(Bytes::new()).await.expect("listed").try_collect().await.expect("all");
    let paths: Vec<Vec<String>> = flights.into_iter().map(|info| info.flight_descriptor.expect("one").path).collect();
    assert_eq!(paths, [["sources", "driver_stats"], ["sources", "fares"]]);
    let described = client.get_schema(FlightDescriptor::new_path(vec!["sources".into(), "fares".into()])).await;
    assert_eq!(described.expect("known").fields().len(), 5);
}

#[tokio::test]
async fn a_training_set_comes_as_a_pipeline_would_build_it_in_two_slices() {
    let (server, _data) = world();
    let outcomes = "
kind: Source
name: outcomes
timestamp: known_at
row_id: [driver_id]
columns:
  - {name: driver_id, type: int}
  - {name: good, type: bool}
  - {name: known_at, type: timestamp}
";
    server.apply(outcomes).ok();
    let ask = |driver: i64| {
        let at = format!("2024-03-10T0{driver}:00:00Z");
        json!({"driver_id": driver, "zone": "n", "fare": 1.5, "event_timestamp": at})
    };
    let spine: Vec<Value> = (0..6).map(ask).collect();
    server.ingest("fares", "application/json", json!(spine).to_string().as_bytes()).ok();
    let known = |driver: i64| json!({"driver_id": driver, "good": driver % 2 == 0, "known_at": "2024-03-10T09:00:00Z"});
    // The last question has no answer.
    let labels: Vec<Value> = (0..5).map(known).collect();
    server.ingest("outcomes", "application/json", json!(labels).to_string().as_bytes()).ok();
    let label = json!({"source": "outcomes", "key": ["driver_id"], "column": "good"});
    let dataset = json!({"service": "rides", "spine": "fares", "label": label, "holdout": "2h"});
    let wanted = json!({"dataset": dataset, "cutoff": "2024-03-11T00:00:00Z"});
    let mut client = client(&server).await;
    let info = client.get_flight_info(FlightDescriptor::new_cmd(wanted.to_string())).await.expect("built");
    let mut drivers = Vec::new();
    for endpoint in info.endpoint {
        let slice = client.do_get(endpoint.ticket.expect("a ticket")).await.expect("fetched");
        let batches: Vec<RecordBatch> = slice.try_collect().await.expect("whole");
        let ids = batches.iter().flat_map(|batch| batch["driver_id"].as_primitive::<Int64Type>().iter().flatten());
        drivers.push(ids.collect::<Vec<i64>>());
    }
    assert_eq!(drivers, [vec![0, 1, 2], vec![3, 4]], "the newest two hours are held out");
}

#[tokio::test]
async fn rows_are_written_by_view_and_a_bad_one_takes_all_back() {
    let (server, _data) = world();
    let table = |driver: Option<i64>, fare: f64| {
        let fields = vec![
            Field::new("driver_id", DataType::Int64, true),
            Field::new("zone", DataType::Utf8, true),
            Field::new("fare", DataType::Float64, true),
            Field::new("trips", DataType::Float64, true),
            Field::new("event_timestamp", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
        ];
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![driver])),
            Arc::new(StringArray::from(vec!["n"])),
            Arc::new(Float64Array::from(vec![fare])),
            Arc::new(Float64Array::from(vec![f64::NAN])),
            Arc::new(TimestampNanosecondArray::from(vec![DAY_NS])),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a table")
    };
    let mut client = client(&server).await;
    let descriptor = command(
        "offline_write_batch",
        json!({"feature_view_names": ["fares"], "name_aliases": [null], "progress": null}),
    );
    client
        .do_put(messages(&descriptor, table(Some(1), 2.5)))
        .await
        .expect("taken")
        .try_collect::<Vec<_>>()
        .await
        .expect("done");
    let message = refused(
        client.do_put(messages(&descriptor, table(Some(1), f64::INFINITY))).await.map(drop),
        Code::InvalidArgument,
    );
    assert!(!message.is_empty());
    let unknown = command("offline_write_batch", json!({"feature_view_names": ["fare"]}));
    assert!(
        refused(client.do_put(messages(&unknown, table(None, 1.0))).await.map(drop), Code::NotFound).contains("fares")
    );
    let ask = json!({"features": ["fares:fare"], "entities": {"driver_id": [1], "zone": ["n"]}});
    assert_eq!(server.post("/get-online-features", &ask).ok()["results"][2]["values"], json!([2.5]));
}

#[tokio::test]
async fn tickets_and_commands_that_make_no_sense_are_refused_and_nothing_breaks() {
    let (server, _data) = world();
    let mut client = client(&server).await;
    let tickets: &[(&[u8], Code)] = &[
        (b"", Code::InvalidArgument),
        (b"\xff\xfe", Code::InvalidArgument),
        (b"{}", Code::InvalidArgument),
        (br#"{"source": "nothing"}"#, Code::NotFound),
        (br#"{"source": "../../etc/passwd"}"#, Code::InvalidArgument),
        (br#"{"source": "fares", "columns": ["password"]}"#, Code::NotFound),
        (br#"{"service": "rides", "spine": "driver_stats"}"#, Code::InvalidArgument),
        (br#"{"dataset": {}, "cutoff": "2024-01-01T00:00:00Z"}"#, Code::InvalidArgument),
        (br#"{"api": "get_historical_features", "feature_refs": []}"#, Code::NotFound),
        (br#"{"api": "drop_table"}"#, Code::InvalidArgument),
    ];
    for (ticket, code) in tickets {
        let message = refused(client.do_get(Ticket::new(ticket.to_vec())).await.map(drop), *code);
        assert!(!message.is_empty(), "{}", String::from_utf8_lossy(ticket));
    }
    let many = json!({"service": "rides", "spine": "fares", "streams": 1_000_000});
    refused(client.get_flight_info(FlightDescriptor::new_cmd(many.to_string())).await, Code::InvalidArgument);
    let fine = |more: Value| {
        let mut all = json!({"feature_refs": ["driver_stats:trips"]});
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        command("get_historical_features", all)
    };
    let asks = [
        (fine(json!({"project": "other"})), Code::NotFound, "default"),
        (fine(json!({"entity_df_sql": "SELECT 1"})), Code::InvalidArgument, "SQL"),
        (fine(json!({"feature_refs": ["driver_stats:trip"]})), Code::NotFound, "driver_stats:trips"),
        (fine(json!({"feature_refs": ["fares:fare"]})), Code::InvalidArgument, "zone"),
        (
            fine(json!({"feature_refs": ["driver_stats:trips", "fares:trips"]})),
            Code::InvalidArgument,
            "full_feature_names",
        ),
    ];
    for (descriptor, code, mentions) in asks {
        let message = refused(exchange(&mut client, &descriptor, spine(&[Some(1)], &[3])).await, code);
        assert!(message.contains(mentions), "{message}");
    }
    assert_eq!(server.get("/healthz").status, 200);
}

/// What a client sends that lies about what it sends.
#[tokio::test]
async fn a_table_that_is_no_lawful_arrow_is_refused_and_the_server_lives() {
    let (server, _data) = world();
    let mut raw = FlightServiceClient::new(channel(&server).await);
    let descriptor = historical(&["driver_stats:trips"]);
    let lawful: Vec<FlightData> =
        messages(&descriptor, spine(&[Some(1); 64], &[3; 64])).try_collect().await.expect("written");
    let [schema, rows] = lawful.as_slice() else { panic!("{}", lawful.len()) };
    let with = |body: Bytes, header: Bytes| {
        vec![schema.clone(), FlightData { data_body: body, data_header: header, ..rows.clone() }]
    };
    let mut broken: Vec<Vec<FlightData>> = vec![
        vec![],
        vec![FlightData { flight_descriptor: None, ..schema.clone() }],
        vec![FlightData { data_header: Bytes::new(), ..schema.clone() }],
        vec![schema.clone(), schema.clone()],
        vec![FlightData { flight_descriptor: Some(descriptor.clone()), ..rows.clone() }],
        with(Bytes::new(), rows.data_header.clone()),
        with(rows.data_body.slice(..rows.data_body.len() / 2), rows.data_header.clone()),
        with(rows.data_body.clone(), Bytes::new()),
    ];
    // Every byte of the headers once turned over.
    for at in 0..rows.data_header.len() {
        let mut header = rows.data_header.to_vec();
        header[at] ^= 0xFF;
        broken.push(with(rows.data_body.clone(), header.into()));
    }
    for at in 0..schema.data_header.len() {
        let mut header = schema.data_header.to_vec();
        header[at] ^= 0xFF;
        broken.push(vec![FlightData { data_header: header.into(), ..schema.clone() }, rows.clone()]);
    }
    let (mut refusals, total) = (0, broken.len());
    for messages in broken {
        let answer =
            async { raw.do_exchange(stream::iter(messages)).await?.into_inner().try_collect::<Vec<_>>().await };
        // Some bytes carry nothing: then the answer is an answer.
        if let Err(status) = answer.await {
            assert!(matches!(status.code(), Code::InvalidArgument), "{status:?}");
            refusals += 1;
        }
    }
    assert!(refusals > total / 4, "{refusals} of {total}");
    let answer =
        exchange(&mut client(&server).await, &descriptor, spine(&[Some(1)], &[3])).await.expect("it still answers");
    assert_eq!(answer.len(), 1);
}
