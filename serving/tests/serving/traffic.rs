//! Routing, load, batches and the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{Coded, ErrorCode};
use futures::future::join_all;
use serde_json::json;
use serving::{PredictRequest, ServingConfig};

use crate::fakes::{BREAKS, GIVES_NAN, PANICS, World, endpoint, expected, flight};

const SMALL: ServingConfig = ServingConfig { max_in_flight: 64, queue_rows: 8, max_batch_rows: 4, threads: 1 };

#[tokio::test]
async fn rows_are_split_as_asked_and_a_key_keeps_its_version() {
    let world = World::new();
    world.deploy(&[(1, 70), (2, 30)], &[]).await.unwrap();
    let mut versions = BTreeMap::new();
    for round in 0..2 {
        for chunk in (0..4_000).collect::<Vec<_>>().chunks(500) {
            let answer = world.ask(chunk.iter().map(|&id| flight(id)).collect()).await.unwrap();
            for (id, prediction) in chunk.iter().zip(answer.predictions) {
                let known = *versions.entry(*id).or_insert(prediction.version);
                assert_eq!(known, prediction.version, "flight {id} in round {round}");
                let score = expected(prediction.version, (id % 500) as f64, 3.0);
                assert_eq!((prediction.score, prediction.positive), (score, f64::from(score) >= 0.06));
            }
        }
    }
    let second = versions.values().filter(|version| **version == 2).count();
    // Five standard deviations of a binomial with n = 4,000 and p = 0.3.
    assert!((1_055..=1_345).contains(&second), "{second}");
}

#[tokio::test]
async fn rows_without_a_label_key_are_split_by_their_prediction() {
    let world = World::new();
    world.deploy(&[(1, 50), (2, 50)], &[]).await.unwrap();
    let anonymous = vec![json!({"origin": "JFK", "distance": 1}); 1_000];
    let answer = world.ask(anonymous).await.unwrap();
    let ids: BTreeSet<_> = answer.predictions.iter().map(|prediction| prediction.id).collect();
    assert_eq!(ids.len(), 1_000);
    let second = answer.predictions.iter().filter(|prediction| prediction.version == 2).count();
    assert!((420..=580).contains(&second), "{second}");
}

#[tokio::test]
async fn a_pinned_version_answers_every_row() {
    let world = World::new();
    world.deploy(&[(1, 100), (2, 0)], &[3]).await.unwrap();
    for pin in [1, 2, 3] {
        let request = PredictRequest { instances: (0..9).map(flight).collect(), pin: Some(pin), deadline: None };
        let answer = world.serving.predict(&endpoint(), request).await.unwrap();
        assert!(answer.predictions.iter().all(|prediction| prediction.version == pin));
    }
    let request = PredictRequest { instances: vec![flight(1)], pin: Some(4), deadline: None };
    let error = world.serving.predict(&endpoint(), request).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.hint().contains("1, 2, 3"), "{}", error.hint());
}

#[tokio::test]
async fn requests_beyond_the_seats_are_refused_at_once() {
    let world = World::with(ServingConfig { max_in_flight: 1, ..SMALL });
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    world.models.gate.hold(true);
    let (first, ()) = tokio::join!(world.ask(vec![flight(1)]), async {
        world.models.gate.arrivals(1).await;
        assert_eq!(world.ask(vec![flight(2)]).await.unwrap_err().code(), ErrorCode::Overloaded);
        world.models.gate.hold(false);
    });
    first.unwrap();
    world.ask(vec![flight(2)]).await.expect("the seat is free again");
}

#[tokio::test]
async fn a_full_queue_refuses_rows_and_empties_again() {
    let world = World::with(SMALL);
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    world.models.gate.hold(true);
    let full = async {
        world.models.gate.arrivals(1).await;
        let waiting = async {
            // Four rows are computed, eight wait, the ninth finds no room.
            let waiting = join_all([world.ask((0..4).map(flight).collect()), world.ask((4..8).map(flight).collect())]);
            tokio::select! {
                biased;
                _ = waiting => panic!("held models answered"),
                () = async { while world.serving.endpoints()[0].waiting_rows < 8 { tokio::task::yield_now().await } } => {}
            }
        };
        let refused = async {
            while world.serving.endpoints()[0].waiting_rows < 8 {
                tokio::task::yield_now().await;
            }
            assert_eq!(world.ask(vec![flight(9)]).await.unwrap_err().code(), ErrorCode::Overloaded);
        };
        tokio::join!(waiting, refused);
        world.models.gate.hold(false);
    };
    let (first, ()) = tokio::join!(world.ask((0..4).map(flight).collect()), full);
    first.unwrap();
    // Withdrawn rows give their room back when a worker comes past them.
    while world.serving.endpoints()[0].waiting_rows > 0 {
        tokio::task::yield_now().await;
    }
    world.ask((0..8).map(flight).collect()).await.expect("the queue has room again");
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_waited_for() {
    let world = World::with(SMALL);
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    world.models.gate.hold(true);
    let deadline = Some(Instant::now() + Duration::from_millis(30));
    let request = PredictRequest { instances: vec![flight(1)], deadline, pin: None };
    let error = world.serving.predict(&endpoint(), request).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::DeadlineExceeded);
    world.models.gate.hold(false);
    world.ask(vec![flight(1)]).await.expect("nothing is stuck");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_versions_under_load_loses_no_request_and_leaves_no_version_behind() {
    let world = Arc::new(World::new());
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let (world, done, answered) = (Arc::clone(&world), Arc::clone(&done), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut seen = BTreeSet::new();
                let mut round = 0;
                while !done.load(Ordering::SeqCst) {
                    let ids = [caller * 1_000 + round, caller * 1_000 + round + 1];
                    let answer = world.ask(ids.map(flight).to_vec()).await.expect("no request is lost");
                    for (id, prediction) in ids.iter().zip(answer.predictions) {
                        assert_eq!(prediction.score, expected(prediction.version, (id % 500) as f64, 3.0));
                        seen.insert(prediction.version);
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                    round += 1;
                }
                seen
            })
        })
        .collect();
    for round in 0..60u32 {
        let (old, new) = (1 + round % 5, 1 + (round + 1) % 5);
        for targets in [&[(old, 50), (new, 50)][..], &[(new, 100)]] {
            let before = answered.load(Ordering::SeqCst);
            world.deploy(targets, &[]).await.unwrap();
            // Each state meets the traffic: some requests began before it, and all callers get answers after it.
            while answered.load(Ordering::SeqCst) < before + 16 {
                assert!(!callers.iter().any(tokio::task::JoinHandle::is_finished), "a caller gave up");
                tokio::task::yield_now().await;
            }
        }
    }
    done.store(true, Ordering::SeqCst);
    let seen: BTreeSet<_> = join_all(callers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(seen, (1..=5).collect());
    world.models.gate.until_alive(&[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_does_not_depend_on_who_shares_the_batch() {
    let world = World::with(ServingConfig { threads: 1, max_batch_rows: 64, ..SMALL });
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    world.models.gate.hold(true);
    let ask = |distance: f64| world.ask(vec![json!({"flight_id": 1, "origin": "LGA", "distance": distance})]);
    let distances = [1.0, BREAKS, 2.0, GIVES_NAN, 3.0, PANICS, 4.0];
    let together = async {
        world.models.gate.arrivals(1).await;
        join_all(distances.map(ask)).await
    };
    let release = async {
        // One request stands before the model, the others wait together.
        while world.serving.endpoints()[0].waiting_rows < distances.len() {
            tokio::task::yield_now().await;
        }
        world.models.gate.hold(false);
    };
    let (first, answers, ()) = tokio::join!(world.ask(vec![flight(1)]), together, release);
    first.unwrap();
    for (distance, answer) in distances.into_iter().zip(answers) {
        if distance < 10.0 {
            assert_eq!(answer.unwrap().predictions[0].score, expected(1, distance, 3.0));
        } else {
            let error = answer.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Internal, "{distance}: {error}");
        }
    }
    assert_eq!(world.models.gate.largest(), distances.len(), "they were one batch");
}

#[tokio::test]
async fn the_end_answers_what_began_and_refuses_what_comes() {
    let world = World::with(SMALL);
    world.deploy(&[(1, 100)], &[2]).await.unwrap();
    world.models.gate.hold(true);
    let end = async {
        world.models.gate.arrivals(1).await;
        let house = world.house.clone();
        let shutdown = tokio::spawn(async move { house.shutdown(Duration::from_secs(20)).await });
        world.house.stopping().cancelled().await;
        assert_eq!(world.ask(vec![flight(2)]).await.unwrap_err().code(), ErrorCode::Unavailable);
        world.models.gate.hold(false);
        assert!(shutdown.await.unwrap().is_empty(), "nobody is late");
    };
    let (first, ()) = tokio::join!(world.ask(vec![flight(1)]), end);
    first.unwrap();
    let logged = world.tap.take();
    assert_eq!(logged[0].scored.len(), 2, "the shadow's score was still handed over");
    let error = world.serving.score(&crate::fakes::version(1), world_rows()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
}

fn world_rows() -> domain::Frame {
    use domain::Column;
    domain::Frame::new([
        ("distance".into(), Column::Float(vec![Some(1.0)])),
        ("weather__temp".into(), Column::Float(vec![None])),
        ("origin".into(), Column::Text(vec![None])),
    ])
    .unwrap()
}
