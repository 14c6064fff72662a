//! Logged models.

use domain::{Coded, ErrorCode, EventKind, RunId};
use registry::{LoggedModelStatus, NewLoggedModel};
use storage::sqlx;

use crate::world::{World, texts};

/// The number of the experiment that the world's runs are in.
async fn experiment(world: &World) -> i64 {
    sqlx::query_scalar("SELECT id FROM registry_experiments WHERE name = 'delays'")
        .fetch_one(world.meta.reader())
        .await
        .unwrap()
}

async fn world() -> (World, RunId, i64) {
    let world = World::new().await;
    let run = world.run().await;
    let experiment = experiment(&world).await;
    (world, run, experiment)
}

fn named(experiment: i64, name: &str) -> NewLoggedModel {
    NewLoggedModel { experiment, name: Some(name.into()), ..NewLoggedModel::default() }
}

/// A point as the run's metrics write it beside the model.
async fn measure(world: &World, model: &str, run: &RunId, key: &str, dataset: (&str, &str), at: i64, value: f64) {
    let mut tx = world.meta.begin().await.unwrap();
    sqlx::query("INSERT INTO registry_logged_model_metrics VALUES ($1, $2, $3, $4, $5, $6, 0, $7)")
        .bind(model)
        .bind(key)
        .bind(dataset.0)
        .bind(dataset.1)
        .bind(run.to_string())
        .bind((!value.is_nan()).then_some(value))
        .bind(at)
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_logged_model_is_found_again_as_it_was_left() {
    let (world, run, experiment) = world().await;
    let new = NewLoggedModel {
        model_type: Some("sklearn".into()),
        source_run: Some(run),
        params: texts(&[("depth", "3")]),
        tags: texts(&[("team", "a"), ("old", "1")]),
        ..named(experiment, "tree")
    };
    let registry = &world.registry;
    let made = registry.create_logged_model(new).await.unwrap();
    assert!(made.id.len() == 34 && made.id.starts_with("m-"), "{}", made.id);
    assert!(made.artifact_uri.ends_with(&format!("/models/{}/artifacts", made.id)), "{}", made.artifact_uri);
    assert_eq!((made.status, made.source_run), (LoggedModelStatus::Pending, Some(run)));

    for _ in 0..2 {
        registry.log_logged_model_params(&made.id, texts(&[("depth", "3"), ("seed", "7")])).await.unwrap();
        registry.set_logged_model_tags(&made.id, texts(&[("team", "b")])).await.unwrap();
        registry.finalize_logged_model(&made.id, LoggedModelStatus::Ready).await.unwrap();
    }
    registry.delete_logged_model_tag(&made.id, "old").await.unwrap();
    measure(&world, &made.id, &run, "loss", ("", ""), 5, f64::NAN).await;
    measure(&world, &made.id, &run, "loss", ("holdout", "abc"), 5, 0.25).await;
    let world = world.reopen().await;
    let found = world.registry.logged_model(&made.id).await.unwrap();
    assert_eq!(found.status, LoggedModelStatus::Ready);
    assert_eq!((found.params, found.tags), (texts(&[("depth", "3"), ("seed", "7")]), texts(&[("team", "b")])));
    let metrics: Vec<_> = found.metrics.iter().map(|m| (m.dataset_name.as_str(), m.value.to_string(), m.run)).collect();
    assert_eq!(metrics, [("", "NaN".to_owned(), run), ("holdout", "0.25".to_owned(), run)]);

    world.registry.delete_logged_model(&made.id).await.unwrap();
    world.registry.delete_logged_model(&made.id).await.expect("a retry is fine");
    assert_eq!(world.registry.logged_model(&made.id).await.unwrap_err().code(), ErrorCode::NotFound);
    let events = world.meta.journal().about(&format!("logged_model/{}", made.id), 10).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    let (created, changed) = (EventKind::LoggedModelCreated, EventKind::LoggedModelChanged);
    assert_eq!(kinds, [changed, changed, created], "repeated calls change nothing");
}

#[tokio::test]
async fn what_cannot_be_logged_is_refused_and_leaves_nothing() {
    let (world, _, experiment) = world().await;
    let registry = &world.registry;
    for name in ["", "a/b", "a:b", "a.b", "a%b", "a\"b", "a'b", "a\nb"] {
        let error = registry.create_logged_model(named(experiment, name)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{name:?}");
    }
    let stranger = NewLoggedModel { source_run: Some(RunId::mint()), ..named(experiment, "x") };
    assert_eq!(registry.create_logged_model(stranger).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(registry.create_logged_model(named(99, "x")).await.unwrap_err().code(), ErrorCode::NotFound);

    let made = registry
        .create_logged_model(NewLoggedModel { params: texts(&[("a", "1")]), experiment, ..NewLoggedModel::default() })
        .await
        .unwrap();
    let parts: Vec<_> = made.name.split('-').collect();
    assert!(parts.len() == 3 && parts[2].parse::<u32>().is_ok(), "a name is made up: {}", made.name);
    let error = registry.log_logged_model_params(&made.id, texts(&[("0", "n"), ("a", "2")])).await.unwrap_err();
    assert!(error.to_string().contains("`1`"), "{error}");
    let error = registry.delete_logged_model_tag(&made.id, "none").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    assert!(error.to_string().contains("tag `none` of logged model"), "{error}");
    registry.finalize_logged_model(&made.id, LoggedModelStatus::UploadFailed).await.unwrap();
    let error = registry.finalize_logged_model(&made.id, LoggedModelStatus::Pending).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    let found = registry.logged_model(&made.id).await.unwrap();
    assert_eq!((found.params, found.status), (texts(&[("a", "1")]), LoggedModelStatus::UploadFailed), "all or nothing");

    let nobody = "m-00000000000000000000000000000000";
    let ready = LoggedModelStatus::Ready;
    let not_found = [
        registry.logged_model(nobody).await.map(drop),
        registry.delete_logged_model(nobody).await,
        registry.finalize_logged_model(nobody, ready).await.map(drop),
        registry.log_logged_model_params(nobody, texts(&[])).await,
        registry.set_logged_model_tags(nobody, texts(&[])).await.map(drop),
        registry.delete_logged_model_tag(nobody, "a").await.map(drop),
    ];
    assert!(not_found.into_iter().all(|result| result.unwrap_err().code() == ErrorCode::NotFound));

    let mut tx = world.meta.begin().await.unwrap();
    sqlx::query("UPDATE registry_experiments SET deleted_at = 1").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    let error = registry.create_logged_model(named(experiment, "x")).await.unwrap_err();
    assert!(error.to_string().contains("is deleted"), "{error}");
}
