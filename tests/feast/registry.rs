//! The registry on the wire.

use proto::feast::registry::{
    GetProjectRequest, GetRequest, ListAllFeatureViewsRequest, ListRequest, PaginationParams,
    registry_server_client::RegistryServerClient,
};
use serde_json::Value;
use tonic::{Code, Status, transport::Channel};

use crate::{support::Server, world};

async fn client(server: &Server) -> RegistryServerClient<Channel> {
    RegistryServerClient::connect(server.url.clone()).await.expect("there")
}

fn get(name: &str, project: &str) -> GetRequest {
    GetRequest { name: name.into(), project: project.into(), allow_cache: false }
}

#[track_caller]
fn class(status: &Status, code: Code) -> String {
    assert_eq!(status.code(), code, "{status:?}");
    let detail: Value = serde_json::from_str(status.message()).expect("JSON");
    detail["class"].as_str().expect("a class").to_owned()
}

#[tokio::test]
async fn views_are_found_by_what_they_have() {
    let (server, _data) = world();
    let mut client = client(&server).await;
    let mut named = async |request: ListAllFeatureViewsRequest| -> Vec<String> {
        let all = client.list_all_feature_views(request).await.expect("listed").into_inner().feature_views;
        let views = all.into_iter().filter_map(|any| match any.any_feature_view? {
            proto::feast::registry::any_feature_view::AnyFeatureView::FeatureView(view) => Some(view.spec?.name),
        });
        views.collect()
    };
    let ask = ListAllFeatureViewsRequest::default;
    assert_eq!(named(ask()).await, ["driver_stats", "driver_week", "fares"]);
    assert_eq!(named(ListAllFeatureViewsRequest { entity: "zone".into(), ..ask() }).await, ["fares"]);
    assert_eq!(named(ListAllFeatureViewsRequest { feature: "trips".into(), ..ask() }).await, ["driver_stats", "fares"]);
    assert_eq!(
        named(ListAllFeatureViewsRequest { feature_service: "rides".into(), ..ask() }).await,
        ["driver_stats", "fares"]
    );
    assert_eq!(named(ListAllFeatureViewsRequest { data_source: "fares_push".into(), ..ask() }).await, ["fares"]);
    let never = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    assert!(named(ListAllFeatureViewsRequest { updated_since: Some(never), ..ask() }).await.is_empty());
}

#[tokio::test]
async fn a_computed_view_cannot_be_pushed_to_and_a_plain_one_can() {
    let (server, _data) = world();
    let mut client = client(&server).await;
    let mut source = async |name| {
        let view = client.get_feature_view(get(name, "default")).await.expect("there").into_inner();
        let spec = view.spec.expect("a spec");
        (spec.stream_source.map(|source| source.name), spec.batch_source.map(|source| source.name))
    };
    assert_eq!(source("driver_stats").await, (Some("driver_stats_push".into()), Some("driver_stats".into())));
    assert_eq!(source("driver_week").await, (None, Some("driver_stats".into())));
}

#[tokio::test]
async fn pages_errors_and_other_projects() {
    let (server, _data) = world();
    let mut client = client(&server).await;
    let second = ListRequest { pagination: Some(PaginationParams { page: 2, limit: 3 }), ..ListRequest::default() };
    let page = client.list_data_sources(second).await.expect("listed").into_inner();
    assert_eq!((page.data_sources.len(), page.pagination.map(|p| (p.total_count, p.has_next))), (1, Some((4, false))));
    let unknown = client.get_feature_view(get("driver", "default")).await.expect_err("none");
    assert_eq!(class(&unknown, Code::NotFound), "FeatureViewNotFoundException");
    let unknown = client.get_on_demand_feature_view(get("driver", "")).await.expect_err("none");
    assert_eq!(class(&unknown, Code::NotFound), "OnDemandFeatureViewNotFoundException");
    let elsewhere = client.get_feature_view(get("driver_stats", "vision")).await.expect_err("not open");
    assert_eq!(class(&elsewhere, Code::NotFound), "ProjectObjectNotFoundException");
    let elsewhere = client.get_project(GetProjectRequest { name: "vision".into(), allow_cache: true }).await;
    assert_eq!(class(&elsewhere.expect_err("not open"), Code::NotFound), "ProjectObjectNotFoundException");
    let all = client.proto(()).await.expect("whole").into_inner();
    let counts = (all.entities.len(), all.data_sources.len(), all.feature_views.len(), all.feature_services.len());
    assert_eq!(counts, (2, 4, 3, 1));
}

#[tokio::test]
async fn a_change_is_refused_with_the_exception_that_feast_has_for_it() {
    let (server, _data) = world();
    let refused = client(&server).await.apply_entity(proto::feast::registry::Change {}).await.expect_err("read only");
    assert_eq!(class(&refused, Code::FailedPrecondition), "ReadOnlyRegistryException");
    assert!(refused.message().contains("millpond apply"), "{refused:?}");
}
