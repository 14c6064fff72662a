//! Putting versions behind an endpoint, and offline scores.

use domain::{Coded, Column, ErrorCode, Frame};

use crate::fakes::{
    DIES_ON_NULLS, DOES_NOT_LOAD, WANTS_OTHER_TYPE, WANTS_UNKNOWN_COLUMN, World, endpoint, expected, flight, state,
    version,
};

#[tokio::test]
async fn a_deployment_that_cannot_work_changes_nothing() {
    let world = World::new();
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    let before = world.serving.endpoints();
    let mut bad_service = state(&[(1, 100)], &[], 1.0);
    bad_service.definition.service = "trains".parse().unwrap();
    let mut bad_key = state(&[(1, 100)], &[], 1.0);
    bad_key.definition.label_key = vec!["distance".parse().unwrap()];
    use ErrorCode::{Conflict, Internal, InvalidArgument, NotFound};
    let cases = [
        (state(&[(2, 90)], &[], 1.0), InvalidArgument, "add up to 90, not to 100"),
        (state(&[(2, 50), (3, 60)], &[], 1.0), InvalidArgument, "add up to 110, not to 100"),
        (state(&[], &[], 1.0), InvalidArgument, "add up to 0"),
        (state(&[(2, 100)], &[2, 2], 1.0), InvalidArgument, "version 2 stands twice"),
        (state(&[(2, 100)], &[], 1.5), InvalidArgument, "`sample` is 1.5"),
        (state(&[(2, 50), (100, 50)], &[], 1.0), NotFound, "delay/100 does not exist"),
        (state(&[(2, 100)], &[101], 1.0), NotFound, "delay/101 does not exist"),
        (
            state(&[(WANTS_UNKNOWN_COLUMN, 100)], &[], 1.0),
            Conflict,
            "no column `weather__tempo` (it has `weather__temp`)",
        ),
        (state(&[(WANTS_OTHER_TYPE, 100)], &[], 1.0), Conflict, "column `month` is int where the model wants text"),
        (state(&[(DOES_NOT_LOAD, 100)], &[], 1.0), InvalidArgument, "delay/93 could not be loaded"),
        (state(&[(DIES_ON_NULLS, 100)], &[], 1.0), Internal, "delay/94 could not be run"),
        (bad_service, NotFound, "no such service"),
        (bad_key, InvalidArgument, "label key column `distance` is float"),
    ];
    for (state, code, message) in cases {
        let error = world.serving.configure(state).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(message), "{error} lacks {message}");
        assert_eq!(world.serving.endpoints(), before);
    }
    world.models.gate.until_alive(&[1]).await;
    assert_eq!(world.ask(vec![flight(1)]).await.unwrap().predictions[0].version, 1);
}

#[tokio::test]
async fn an_endpoint_shows_its_state_and_can_be_removed() {
    let world = World::new();
    world.deploy(&[(4, 95), (5, 5)], &[6]).await.unwrap();
    let [status] = &world.serving.endpoints()[..] else { panic!("one endpoint") };
    let shown = serde_json::to_value(status).unwrap();
    assert_eq!(shown["targets"], serde_json::json!([{"version": 4, "percent": 95}, {"version": 5, "percent": 5}]));
    assert_eq!((&shown["name"], &shown["shadow"][0]), (&"flight-delay".into(), &6.into()));
    assert_eq!(world.models.gate.alive(), [4, 5, 6]);
    world.serving.remove(&endpoint()).await.unwrap();
    assert_eq!(world.serving.remove(&endpoint()).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(world.ask(vec![flight(1)]).await.unwrap_err().code(), ErrorCode::NotFound);
    world.models.gate.until_alive(&[]).await;
}

#[tokio::test]
async fn a_version_is_loaded_once_for_everybody() {
    let world = World::new();
    world.deploy(&[(4, 100)], &[]).await.unwrap();
    let mut other = state(&[(4, 100)], &[], 1.0);
    other.definition.name = "other".parse().unwrap();
    world.serving.configure(other).await.unwrap();
    assert_eq!(world.models.gate.loads(), 1);
}

#[tokio::test]
async fn offline_rows_are_scored_in_order_whatever_their_number() {
    let world = World::new();
    let rows = |count: usize| {
        Frame::new([
            ("unused".into(), Column::Bool(vec![None; count])),
            ("origin".into(), Column::Text(vec![None; count])),
            ("distance".into(), Column::Int((0..count).map(|i| Some(i as i64 % 500)).collect())),
            ("weather__temp".into(), Column::Float(vec![Some(2.0); count])),
        ])
        .unwrap()
    };
    for count in [0, 1, 64, 65, 3_000] {
        let scores = world.serving.score(&version(3), rows(count)).await.unwrap();
        let wanted: Vec<_> = (0..count).map(|i| expected(3, (i % 500) as f64, 2.0)).collect();
        assert_eq!(scores, wanted);
    }
    assert!(world.models.gate.largest() <= 64, "no batch is larger than allowed");
    world.models.gate.until_alive(&[]).await;
    let mut lacking = rows(10);
    lacking.remove("distance");
    let error = world.serving.score(&version(3), lacking).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("column `distance` is missing"), "{error}");
    assert_eq!(world.serving.score(&version(100), rows(1)).await.unwrap_err().code(), ErrorCode::NotFound);
}
