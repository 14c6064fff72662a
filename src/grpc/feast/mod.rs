//! The registry server of Feast, as far as its clients read: our definitions in Feast's words.

mod page;
pub mod serving;

use std::{future::ready, pin::Pin};

use domain::ErrorCode;
use prost_types::Timestamp as Stamp;
use proto::feast::{
    core,
    registry::{
        AnyFeatureView, ApplyMaterializationRequest, Change, GetAnyFeatureViewResponse, GetInfraRequest,
        GetProjectRequest, GetRequest, ListAllFeatureViewsRequest, ListAllFeatureViewsResponse,
        ListDataSourcesResponse, ListEntitiesResponse, ListFeatureServicesRequest, ListFeatureServicesResponse,
        ListFeatureViewsResponse, ListLabelViewsResponse, ListOnDemandFeatureViewsResponse, ListPermissionsResponse,
        ListProjectMetadataRequest, ListProjectMetadataResponse, ListProjectsRequest, ListProjectsResponse,
        ListRequest, ListSavedDatasetsResponse, ListStreamFeatureViewsResponse, ListValidationReferencesResponse,
        RefreshRequest, any_feature_view,
        registry_server_server::{RegistryServer, RegistryServerServer},
    },
};
use tonic::{Request, Response, Status};

use crate::{
    app::App,
    feast::{Class, Refusal, objects::Objects, objects::stamp, other_project},
};
use page::page;

/// The schema of Feast's registry that is spoken.
const SCHEMA_VERSION: &str = "1";

/// The registry of one project.
pub struct Registry {
    app: App,
}

/// The service, ready to be added to a router.
pub fn service(app: App, message_bytes_max: usize) -> RegistryServerServer<Registry> {
    RegistryServerServer::new(Registry { app }).max_decoding_message_size(message_bytes_max)
}

impl Registry {
    /// What stands, if the request is about this project.
    async fn objects(&self, project: &str) -> Result<Objects, Status> {
        self.is_open(project)?;
        let read = Objects::read(&self.app.features, &self.app.project, self.app.clock.now());
        read.await.map_err(|e| e.to_status())
    }

    fn is_open(&self, project: &str) -> Result<(), Status> {
        if project.is_empty() || project == self.app.project.as_str() {
            return Ok(());
        }
        Err(other_project(project, &self.app.project).to_status())
    }

    /// A kind of which nothing is ever there.
    fn absent<T>(&self, request: &GetRequest, class: Class, kind: &str) -> Result<T, Status> {
        self.is_open(&request.project)?;
        Err(not_found(class, kind, &request.name, &request.project))
    }

    async fn view(&self, request: &GetRequest) -> Result<core::FeatureView, Status> {
        let views = self.objects(&request.project).await?.views;
        let found = views.into_iter().find(|view| view.spec.as_ref().is_some_and(|spec| spec.name == request.name));
        found.ok_or_else(|| not_found(Class::ViewNotFound, "feature view", &request.name, &request.project))
    }

    fn project(&self, name: &str) -> Result<core::Project, Status> {
        self.is_open(name)?;
        let spec = core::ProjectSpec { name: self.app.project.to_string(), ..core::ProjectSpec::default() };
        Ok(core::Project { spec: Some(spec), meta: None })
    }

    async fn metadata(&self) -> Result<core::ProjectMetadata, Status> {
        let identity = self.app.meta.identity().await.map_err(super::refuse)?;
        Ok(core::ProjectMetadata { project: self.app.project.to_string(), project_uuid: identity })
    }
}

fn not_found(class: Class, kind: &str, name: &str, project: &str) -> Status {
    Refusal::not_found(class, format!("{kind} {name} does not exist in project {project}")).to_status()
}

/// Whether a view was changed after `since`.
fn changed_after(view: &core::FeatureView, since: Option<&Stamp>) -> bool {
    let order = |at: &Stamp| (at.seconds, at.nanos);
    let changed = view.meta.as_ref().and_then(|meta| meta.last_updated_timestamp.as_ref());
    since.is_none_or(|since| changed.is_some_and(|changed| order(changed) > order(since)))
}

/// Whether a view fits every name that the request gives.
fn is_asked_for(view: &core::FeatureView, request: &ListAllFeatureViewsRequest, in_service: Option<&[String]>) -> bool {
    let Some(spec) = &view.spec else { return false };
    let fits = |asked: &str, among: Vec<&String>| asked.is_empty() || among.into_iter().any(|name| name == asked);
    let sources = [&spec.batch_source, &spec.stream_source].into_iter().flatten();
    fits(&request.entity, spec.entities.iter().collect())
        && fits(&request.feature, spec.features.iter().map(|feature| &feature.name).collect())
        && fits(&request.data_source, sources.map(|source| &source.name).collect())
        && in_service.is_none_or(|names| names.contains(&spec.name))
        && page::tagged(&spec.tags, &request.tags)
        && changed_after(view, request.updated_since.as_ref())
}

fn any(view: core::FeatureView) -> AnyFeatureView {
    AnyFeatureView { any_feature_view: Some(any_feature_view::AnyFeatureView::FeatureView(view)) }
}

/// Names of the views that a service takes from.
fn views_of(service: &core::FeatureService) -> Vec<String> {
    let projections = service.spec.iter().flat_map(|spec| &spec.features);
    projections.map(|projection| projection.feature_view_name.clone()).collect()
}

/// An answer on its way.
type Soon<'t, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 't>>;

/// Methods about kinds of which nothing is ever there.
///
/// `async_trait` does not look into macros, so these are written as what it makes of an `async fn`.
macro_rules! always_empty {
    ($($get:ident -> $kind:ident, $class:ident, $words:literal; $list:ident -> $response:ident;)+) => {$(
        fn $get<'a, 't>(&'a self, request: Request<GetRequest>) -> Soon<'t, core::$kind>
        where
            'a: 't,
            Self: 't,
        {
            Box::pin(ready(self.absent(request.get_ref(), Class::$class, $words)))
        }
        fn $list<'a, 't>(&'a self, request: Request<ListRequest>) -> Soon<'t, $response>
        where
            'a: 't,
            Self: 't,
        {
            let open = self.is_open(&request.get_ref().project);
            Box::pin(ready(open.map(|()| Response::new($response::default()))))
        }
    )+};
}

/// Methods that would change something.
macro_rules! refused {
    ($($method:ident)+) => {$(
        fn $method<'a, 't>(&'a self, _: Request<Change>) -> Soon<'t, ()>
        where
            'a: 't,
            Self: 't,
        {
            let hint = "this registry is only read by Feast's clients: write the definition as a file and run `millpond apply`";
            Box::pin(ready(Err(Refusal::new(ErrorCode::Conflict, Class::ReadOnly, hint).to_status())))
        }
    )+};
}

#[tonic::async_trait]
impl RegistryServer for Registry {
    async fn get_entity(&self, request: Request<GetRequest>) -> Result<Response<core::Entity>, Status> {
        let GetRequest { name, project, .. } = request.into_inner();
        let all = self.objects(&project).await?.entities;
        let found = all.into_iter().find(|entity| entity.spec.as_ref().is_some_and(|spec| spec.name == name));
        found.map(Response::new).ok_or_else(|| not_found(Class::EntityNotFound, "entity", &name, &project))
    }

    async fn list_entities(&self, request: Request<ListRequest>) -> Result<Response<ListEntitiesResponse>, Status> {
        let request = request.into_inner();
        let mut entities = self.objects(&request.project).await?.entities;
        entities.retain(|entity| entity.spec.as_ref().is_some_and(|spec| page::tagged(&spec.tags, &request.tags)));
        let (entities, pagination) = page(entities, request.pagination.as_ref());
        Ok(Response::new(ListEntitiesResponse { entities, pagination }))
    }

    async fn get_data_source(&self, request: Request<GetRequest>) -> Result<Response<core::DataSource>, Status> {
        let GetRequest { name, project, .. } = request.into_inner();
        let found = self.objects(&project).await?.sources.into_iter().find(|source| source.name == name);
        found.map(Response::new).ok_or_else(|| not_found(Class::SourceNotFound, "data source", &name, &project))
    }

    async fn list_data_sources(
        &self,
        request: Request<ListRequest>,
    ) -> Result<Response<ListDataSourcesResponse>, Status> {
        let request = request.into_inner();
        let mut sources = self.objects(&request.project).await?.sources;
        sources.retain(|source| page::tagged(&source.tags, &request.tags));
        let (data_sources, pagination) = page(sources, request.pagination.as_ref());
        Ok(Response::new(ListDataSourcesResponse { data_sources, pagination }))
    }

    async fn get_any_feature_view(
        &self,
        request: Request<GetRequest>,
    ) -> Result<Response<GetAnyFeatureViewResponse>, Status> {
        let view = self.view(request.get_ref()).await?;
        Ok(Response::new(GetAnyFeatureViewResponse { any_feature_view: Some(any(view)) }))
    }

    async fn list_all_feature_views(
        &self,
        request: Request<ListAllFeatureViewsRequest>,
    ) -> Result<Response<ListAllFeatureViewsResponse>, Status> {
        let request = request.into_inner();
        let objects = self.objects(&request.project).await?;
        let named = |service: &&core::FeatureService| {
            service.spec.as_ref().is_some_and(|spec| spec.name == request.feature_service)
        };
        let in_service = match request.feature_service.is_empty() {
            true => None,
            false => Some(objects.services.iter().find(named).map(views_of).unwrap_or_default()),
        };
        let mut views = objects.views;
        views.retain(|view| is_asked_for(view, &request, in_service.as_deref()));
        let (views, pagination) = page(views, request.pagination.as_ref());
        let feature_views = views.into_iter().map(any).collect();
        Ok(Response::new(ListAllFeatureViewsResponse { feature_views, pagination }))
    }

    async fn get_feature_view(&self, request: Request<GetRequest>) -> Result<Response<core::FeatureView>, Status> {
        self.view(request.get_ref()).await.map(Response::new)
    }

    async fn list_feature_views(
        &self,
        request: Request<ListRequest>,
    ) -> Result<Response<ListFeatureViewsResponse>, Status> {
        let request = request.into_inner();
        let mut views = self.objects(&request.project).await?.views;
        views.retain(|view| view.spec.as_ref().is_some_and(|spec| page::tagged(&spec.tags, &request.tags)));
        let (feature_views, pagination) = page(views, request.pagination.as_ref());
        Ok(Response::new(ListFeatureViewsResponse { feature_views, pagination }))
    }

    async fn get_feature_service(
        &self,
        request: Request<GetRequest>,
    ) -> Result<Response<core::FeatureService>, Status> {
        let GetRequest { name, project, .. } = request.into_inner();
        let all = self.objects(&project).await?.services;
        let found = all.into_iter().find(|service| service.spec.as_ref().is_some_and(|spec| spec.name == name));
        found.map(Response::new).ok_or_else(|| not_found(Class::ServiceNotFound, "feature service", &name, &project))
    }

    async fn list_feature_services(
        &self,
        request: Request<ListFeatureServicesRequest>,
    ) -> Result<Response<ListFeatureServicesResponse>, Status> {
        let request = request.into_inner();
        let mut services = self.objects(&request.project).await?.services;
        services.retain(|service| {
            let tagged = service.spec.as_ref().is_some_and(|spec| page::tagged(&spec.tags, &request.tags));
            tagged && (request.feature_view.is_empty() || views_of(service).contains(&request.feature_view))
        });
        let (feature_services, pagination) = page(services, request.pagination.as_ref());
        Ok(Response::new(ListFeatureServicesResponse { feature_services, pagination }))
    }

    always_empty! {
        get_stream_feature_view -> StreamFeatureView, ViewNotFound, "stream feature view";
        list_stream_feature_views -> ListStreamFeatureViewsResponse;
        get_on_demand_feature_view -> OnDemandFeatureView, OnDemandViewNotFound, "on demand feature view";
        list_on_demand_feature_views -> ListOnDemandFeatureViewsResponse;
        get_label_view -> LabelView, ViewNotFound, "label view";
        list_label_views -> ListLabelViewsResponse;
        get_saved_dataset -> SavedDataset, SavedDatasetNotFound, "saved dataset";
        list_saved_datasets -> ListSavedDatasetsResponse;
        get_validation_reference -> ValidationReference, ReferenceNotFound, "validation reference";
        list_validation_references -> ListValidationReferencesResponse;
        get_permission -> Permission, PermissionNotFound, "permission";
        list_permissions -> ListPermissionsResponse;
    }

    refused! {
        apply_entity
        delete_entity
        apply_data_source
        delete_data_source
        apply_feature_view
        delete_feature_view
        apply_feature_service
        delete_feature_service
        apply_saved_dataset
        delete_saved_dataset
        apply_validation_reference
        delete_validation_reference
        apply_permission
        delete_permission
        apply_project
        delete_project
        update_infra
    }

    async fn get_project(&self, request: Request<GetProjectRequest>) -> Result<Response<core::Project>, Status> {
        self.project(&request.get_ref().name).map(Response::new)
    }

    /// Only the project that is open: others are not told of.
    async fn list_projects(&self, _: Request<ListProjectsRequest>) -> Result<Response<ListProjectsResponse>, Status> {
        let projects = vec![self.project("")?];
        Ok(Response::new(ListProjectsResponse { projects, pagination: None }))
    }

    async fn list_project_metadata(
        &self,
        request: Request<ListProjectMetadataRequest>,
    ) -> Result<Response<ListProjectMetadataResponse>, Status> {
        self.is_open(&request.get_ref().project)?;
        Ok(Response::new(ListProjectMetadataResponse { project_metadata: vec![self.metadata().await?] }))
    }

    async fn get_infra(&self, request: Request<GetInfraRequest>) -> Result<Response<core::Infra>, Status> {
        self.is_open(&request.get_ref().project)?;
        Ok(Response::new(core::Infra {}))
    }

    async fn apply_materialization(
        &self,
        request: Request<ApplyMaterializationRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let name = request.feature_view.and_then(|view| view.spec).map(|spec| spec.name).unwrap_or_default();
        self.view(&GetRequest { name, project: request.project, allow_cache: false }).await?;
        Ok(Response::new(()))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<()>, Status> {
        self.is_open(&request.get_ref().project).map(Response::new)
    }

    async fn commit(&self, _: Request<()>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    async fn proto(&self, _: Request<()>) -> Result<Response<core::Registry>, Status> {
        let objects = self.objects("").await?;
        Ok(Response::new(core::Registry {
            entities: objects.entities,
            registry_schema_version: SCHEMA_VERSION.to_owned(),
            version_id: objects.changed_at.micros().to_string(),
            last_updated: Some(stamp(objects.changed_at)),
            feature_views: objects.views,
            feature_services: objects.services,
            infra: Some(core::Infra {}),
            data_sources: objects.sources,
            project_metadata: vec![self.metadata().await?],
            projects: vec![self.project("")?],
        }))
    }
}
