//! Searching logged models: datasets, orders by metric, pages. The grammar has its tests beside it.

use domain::{Coded, ErrorCode, RunId};
use registry::{ModelDataset, ModelOrder, ModelSearch, NewLoggedModel, RegistryError, Search};
use storage::sqlx;

use crate::world::{World, texts};

/// Three models with metrics: `loss` of each on none, one or two datasets.
struct Pond {
    world: World,
    experiment: i64,
}

impl Pond {
    async fn new() -> Self {
        let world = World::new().await;
        let run = world.run().await;
        let experiment: i64 = sqlx::query_scalar("SELECT MAX(id) FROM registry_experiments")
            .fetch_one(world.meta.reader())
            .await
            .unwrap();
        let pond = Self { world, experiment };
        for (name, kind, points) in [
            ("a", "tree", &[("train", "1", 1, 0.5), ("train", "2", 2, 0.1), ("test", "1", 3, 0.7)][..]),
            ("b", "net", &[("test", "1", 1, 0.6), ("", "", 9, 0.2)]),
            ("c", "net", &[("train", "1", 1, f64::NAN)]),
            ("d", "tree", &[]),
        ] {
            let new = NewLoggedModel {
                experiment: pond.experiment,
                name: Some(name.into()),
                params: texts(&[("kind", kind)]),
                ..NewLoggedModel::default()
            };
            let model = pond.world.registry.create_logged_model(new).await.unwrap();
            pond.world.clock.advance(domain::Span::HOUR);
            for (dataset, digest, at, value) in points {
                pond.measure(&model.id, &run, dataset, digest, *at, *value).await;
            }
        }
        pond
    }

    async fn measure(&self, model: &str, run: &RunId, dataset: &str, digest: &str, at: i64, value: f64) {
        let mut tx = self.world.meta.begin().await.unwrap();
        sqlx::query("INSERT INTO registry_logged_model_metrics VALUES ($1, 'loss', $2, $3, $4, $5, 0, $6)")
            .bind(model)
            .bind(dataset)
            .bind(digest)
            .bind(run.to_string())
            .bind((!value.is_nan()).then_some(value))
            .bind(at)
            .execute(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// The names found, page by page of two.
    async fn names(
        &self,
        filter: &str,
        order: &[ModelOrder],
        datasets: &[ModelDataset],
    ) -> Result<String, RegistryError> {
        let mut wanted = ModelSearch {
            search: Search { filter: filter.into(), limit: 2, ..Search::default() },
            experiments: vec![self.experiment],
            order: order.to_vec(),
            datasets: datasets.to_vec(),
        };
        let mut names = String::new();
        loop {
            let page = self.world.registry.search_logged_models(wanted.clone()).await?;
            names.extend(page.items.iter().map(|model| model.name.as_str()));
            match page.next {
                Some(token) => wanted.search.page_token = token,
                None => return Ok(names),
            }
        }
    }
}

fn by(field: &str, descending: bool) -> ModelOrder {
    ModelOrder { field: field.into(), descending, ..ModelOrder::default() }
}

fn on(name: &str, digest: Option<&str>) -> ModelDataset {
    ModelDataset { name: name.into(), digest: digest.map(str::to_owned) }
}

#[tokio::test]
async fn logged_models_are_filtered_by_what_they_are_and_how_they_measured() {
    let pond = Pond::new().await;
    for (filter, datasets, names) in [
        ("", vec![], "dcba"),
        ("params.kind = 'net'", vec![], "cb"),
        ("name LIKE 'A%' OR name ILIKE 'A%'", vec![], "a"),
        ("metrics.loss < 0.3", vec![], "ba"),
        ("metrics.loss >= 0.6", vec![on("test", None)], "ba"),
        ("metrics.loss < 0.3", vec![on("test", None)], ""),
        ("metrics.loss < 0.3", vec![on("test", None), on("train", Some("2"))], "a"),
        ("metrics.loss IS NULL", vec![on("test", None)], "dc"),
        ("", vec![on("train", None)], "ca"),
        ("params.kind = 'tree'", vec![on("train", Some("1"))], "a"),
        ("", vec![on("nowhere", None)], ""),
        ("status = 'PENDING' AND creation_time > 0", vec![], "dcba"),
        ("status = 'LOGGED_MODEL_READY'", vec![], ""),
    ] {
        let found = pond.names(filter, &[], &datasets).await.unwrap();
        assert_eq!(found, names, "{filter} on {datasets:?}");
    }
}

#[tokio::test]
async fn logged_models_are_ordered_by_their_newest_value_on_the_dataset_named() {
    let pond = Pond::new().await;
    let named = |name: &str, digest: Option<&str>| ModelOrder {
        dataset_name: Some(name.into()),
        dataset_digest: digest.map(str::to_owned),
        ..by("metrics.loss", false)
    };
    for (order, names) in [
        (vec![by("creation_timestamp", false)], "abcd"),
        (vec![by("name", true)], "dcba"),
        (vec![by("metrics.loss", false)], "bacd"),
        (vec![by("metrics.loss", true)], "abcd"),
        (vec![named("train", None)], "acdb"),
        (vec![named("train", Some("1"))], "acdb"),
        (vec![named("test", None)], "badc"),
        (vec![by("params.kind", false), by("metrics.loss", false)], "bcad"),
    ] {
        assert_eq!(pond.names("", &order, &[]).await.unwrap(), names, "{order:?}");
    }
    let error = pond.names("", &[by("metrik.loss", false)], &[]).await.unwrap_err();
    assert!(error.to_string().contains("did you mean `metrics`?"), "{error}");
}

#[tokio::test]
async fn a_token_of_another_search_is_refused() {
    let pond = Pond::new().await;
    let first = ModelSearch {
        search: Search { limit: 1, ..Search::default() },
        experiments: vec![pond.experiment],
        ..ModelSearch::default()
    };
    let registry = &pond.world.registry;
    let token = registry.search_logged_models(first.clone()).await.unwrap().next.expect("there is more");
    let mut next = first.clone();
    next.search.page_token = token;
    assert_eq!(registry.search_logged_models(next.clone()).await.unwrap().items[0].name, "c");
    for change in [
        |s: &mut ModelSearch| s.experiments.push(99),
        |s: &mut ModelSearch| s.datasets.push(on("train", None)),
        |s: &mut ModelSearch| s.order.push(by("name", false)),
        |s: &mut ModelSearch| s.search.filter = "name = 'a'".into(),
    ] {
        let mut other = next.clone();
        change(&mut other);
        let error = registry.search_logged_models(other).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
    let nowhere = ModelSearch { experiments: vec![], ..first };
    assert!(registry.search_logged_models(nowhere).await.unwrap().items.is_empty());
}
