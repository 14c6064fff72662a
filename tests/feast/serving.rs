//! The gRPC feature server on the wire.

use proto::feast::{
    serving::{
        FeatureList, FieldStatus, GetOnlineFeaturesRequest, get_online_features_request::Kind,
        serving_service_client::ServingServiceClient,
    },
    types::{RepeatedValue, Value, value::Val},
};
use serde_json::json;
use tonic::Code;

use crate::world;

fn column(values: &[Option<Val>]) -> RepeatedValue {
    RepeatedValue { val: values.iter().map(|val| Value { val: val.clone() }).collect() }
}

#[tokio::test]
async fn it_answers_what_the_route_of_rest_answers() {
    let (server, _data) = world();
    let row = json!([{"driver_id": 1, "zone": "n", "fare": 0.1, "event_timestamp": "2024-03-10T12:00:00.000001Z"}]);
    server.ingest("fares", "application/json", row.to_string().as_bytes()).ok();
    let mut client = ServingServiceClient::connect(server.url.clone()).await.expect("there");
    let features =
        |names: &[&str]| Some(Kind::Features(FeatureList { val: names.iter().map(ToString::to_string).collect() }));
    let drivers = column(&[Some(Val::Int32Val(1)), Some(Val::DoubleVal(2.0)), None]);
    let zones =
        column(&[Some(Val::StringVal("n".into())), Some(Val::StringVal("n".into())), Some(Val::StringVal("n".into()))]);
    let request = GetOnlineFeaturesRequest {
        kind: features(&["fares:fare", "fares:trips"]),
        entities: [("driver_id".into(), drivers), ("zone".into(), zones)].into(),
        full_feature_names: true,
        ..GetOnlineFeaturesRequest::default()
    };
    let answer = client.get_online_features(request.clone()).await.expect("answered").into_inner();
    let names = answer.metadata.expect("metadata").feature_names.expect("names").val;
    assert_eq!(names, ["driver_id", "zone", "fares__fare", "fares__trips"]);
    use FieldStatus::{NotFound, NullValue, Present};
    let statuses: Vec<Vec<FieldStatus>> = answer.results.iter().map(|vector| vector.statuses().collect()).collect();
    let wanted =
        [[Present, Present, NullValue], [Present; 3], [Present, NotFound, NotFound], [NullValue, NotFound, NotFound]];
    assert_eq!(statuses, wanted);
    assert_eq!(answer.results[2].values[0].val, Some(Val::DoubleVal(0.1)));
    assert_eq!(answer.results[2].event_timestamps[0].nanos, 1_000);
    let bytes = column(&[Some(Val::BytesVal(vec![1]))]);
    for (broken, code) in [
        (GetOnlineFeaturesRequest { kind: None, ..request.clone() }, Code::InvalidArgument),
        (GetOnlineFeaturesRequest { kind: features(&["fares:far"]), ..request.clone() }, Code::NotFound),
        (
            GetOnlineFeaturesRequest { entities: [("driver_id".into(), bytes)].into(), ..request.clone() },
            Code::InvalidArgument,
        ),
    ] {
        let refused = client.get_online_features(broken).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains("feast.errors"), "{refused:?}");
    }
}
