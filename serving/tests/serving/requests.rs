//! Requests that cannot be answered, and why.

use domain::{Coded, ErrorCode};
use serde_json::{Value as Json, json};

use crate::fakes::{BREAKS, DOWN, PANICS, World, expected, flight};

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong_and_how_to_mend_it() {
    let world = World::new();
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    let with = |name: &str, value: Json| {
        let mut instance = flight(7);
        instance[name] = value;
        vec![flight(1), instance]
    };
    let without = |name: &str| {
        let mut instance = flight(7);
        instance.as_object_mut().unwrap().remove(name);
        vec![flight(1), instance]
    };
    use ErrorCode::{InvalidArgument, TooLarge, Unavailable};
    let cases = [
        (vec![], InvalidArgument, "instances is empty", "at least one"),
        (vec![json!(3)], InvalidArgument, "instances[0] is not an object", "an object"),
        (without("distance"), InvalidArgument, "instances[1].distance is missing", "as float"),
        (without("origin"), InvalidArgument, "instances[1].origin is missing", "or null"),
        (with("distance", json!("NaN")), InvalidArgument, "instances[1].distance is wrong: NaN", "finite"),
        (with("distance", json!("10")), InvalidArgument, "instances[1].distance is wrong: expected float", "float"),
        (with("month", json!(1.5)), InvalidArgument, "instances[1].month is wrong: expected int", "int"),
        (with("distanse", json!(1)), InvalidArgument, "instances[1].distanse is not a field", "`distance`"),
        (with("flight_id", json!({})), InvalidArgument, "instances[1].flight_id is wrong", "text or"),
        (with("event_timestamp", json!("2013-01-01T00:00")), InvalidArgument, "has no zone", "zone"),
        ((0..1_025).map(flight).collect(), TooLarge, "1025 rows where at most 1024", "1024"),
        (with("origin", json!(DOWN)), Unavailable, "the online store is away", "ask the fakes"),
    ];
    for (instances, code, message, hint) in cases {
        let error = world.ask(instances).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(message), "{error} lacks {message}");
        assert!(error.hint().contains(hint), "{} lacks {hint}", error.hint());
    }
    assert!(world.tap.take().is_empty(), "a refused request leaves no sample");
}

#[tokio::test]
async fn an_unknown_endpoint_is_answered_with_the_nearest() {
    let world = World::new();
    let ask = |name: &str| {
        let request = serving::PredictRequest { instances: vec![flight(1)], ..Default::default() };
        let (serving, name) = (world.serving.clone(), name.parse().unwrap());
        async move { serving.predict(&name, request).await.unwrap_err() }
    };
    let error = ask("flight-delay").await;
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (ErrorCode::NotFound, "endpoint `flight-delay` does not exist")
    );
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    assert_eq!(ask("flight-dealy").await.hint(), "did you mean `flight-delay`?");
}

#[tokio::test]
async fn unseen_categories_and_unknown_entities_are_answered() {
    let world = World::new();
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    let unseen = json!({"origin": "ÜÇ🛫x", "distance": 10});
    let unknown = json!({"origin": null, "distance": 10, "event_timestamp": "2013-05-01T00:00:00+02:00"});
    let answer = world.ask(vec![unseen, unknown]).await.unwrap();
    assert_eq!(answer.predictions[0].score, expected(1, 10.0, "ÜÇ🛫x".len() as f64));
    assert_eq!(answer.predictions[1].score, expected(1, 10.0, 0.0));
    assert_eq!(answer.predictions[0].event_timestamp.to_string(), "2013-04-01T12:00:00Z");
    assert_eq!(answer.predictions[1].event_timestamp.to_string(), "2013-04-30T22:00:00Z");
}

#[tokio::test]
async fn a_model_that_breaks_fails_its_request_and_nothing_else() {
    let world = World::new();
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    for distance in [BREAKS, PANICS] {
        let error = world.ask(vec![json!({"origin": "JFK", "distance": distance})]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Internal);
        assert!(error.to_string().contains("version delay/1"), "{error}");
    }
    world.ask((0..100).map(flight).collect()).await.expect("the threads live on");
}
