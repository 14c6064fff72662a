use ::registry::{MetricPoint, NewRun, NewVersion, RunFilter};
use domain::{
    ErrorCode, ModelName, ModelRef, RunId, Signature,
    state::{RunEvent, RunState},
};
use proto::{
    from_struct,
    registry::{
        FinishRunRequest, GetRunRequest, GetVersionRequest, Lineage, ListModelsRequest, ListModelsResponse,
        ListRunsRequest, ListRunsResponse, ListVersionsRequest, ListVersionsResponse, LogMetricsRequest,
        LogMetricsResponse, ModelVersion, RegisterVersionRequest, Run, SetAliasRequest, StartRunRequest,
        registry_server::Registry,
    },
};
use tonic::{Request, Response, Status};

use super::{Door, limit, object, objects, read, read_opt, refuse, status};

fn run(run: &::registry::Run) -> Result<Run, Status> {
    Ok(Run { id: run.id.to_string(), body: Some(object(run)?) })
}

fn version(version: &::registry::ModelVersion) -> Result<ModelVersion, Status> {
    Ok(ModelVersion { model: version.model.to_string(), version: version.version, body: Some(object(version)?) })
}

fn model_ref(model: &str, version: u32) -> Result<ModelRef, Status> {
    Ok(ModelRef { model: read("model", model)?, version })
}

#[tonic::async_trait]
impl Registry for Door {
    async fn start_run(&self, request: Request<StartRunRequest>) -> Result<Response<Run>, Status> {
        let new = request.into_inner();
        let new = NewRun {
            experiment: new.experiment,
            name: new.name,
            params: new.params.into_iter().collect(),
            tags: new.tags.into_iter().collect(),
            dataset: None,
            code_version: new.code_version,
            environment: new.environment.into_iter().collect(),
            cause: None,
        };
        let started = self.app.registry.start_run(new).await.map_err(refuse)?;
        run(&started).map(Response::new)
    }

    async fn log_metrics(&self, request: Request<LogMetricsRequest>) -> Result<Response<LogMetricsResponse>, Status> {
        let request = request.into_inner();
        let id: RunId = read("run", &request.run)?;
        let now = self.app.clock.now();
        let points = request
            .metrics
            .into_iter()
            .map(|m| {
                let at = read_opt("metrics.at", &m.at)?.unwrap_or(now);
                Ok(MetricPoint { key: m.key, value: m.value, step: m.step, at })
            })
            .collect::<Result<Vec<_>, Status>>()?;
        let written = points.len() as u64;
        self.app.registry.log_metrics(&id, points).await.map_err(refuse)?;
        Ok(Response::new(LogMetricsResponse { written }))
    }

    async fn finish_run(&self, request: Request<FinishRunRequest>) -> Result<Response<Run>, Status> {
        let request = request.into_inner();
        let id: RunId = read("run", &request.run)?;
        let event = match RunState::parse(&request.state) {
            Some(RunState::Finished) => RunEvent::Finish,
            Some(RunState::Failed) => RunEvent::Break,
            Some(RunState::Cancelled) => RunEvent::Stop,
            Some(RunState::Running | RunState::Scheduled) | None => {
                return Err(status(ErrorCode::InvalidArgument, "state: write finished, failed or cancelled"));
            }
        };
        run(&self.app.registry.finish_run(&id, event).await.map_err(refuse)?).map(Response::new)
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<Run>, Status> {
        let id: RunId = read("run", &request.into_inner().run)?;
        run(&self.app.registry.run(&id).await.map_err(refuse)?).map(Response::new)
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        let request = request.into_inner();
        let experiment = Some(request.experiment).filter(|e| !e.is_empty());
        let filter = RunFilter { experiment, limit: limit(request.limit, 100) };
        let runs = self.app.registry.runs(filter).await.map_err(refuse)?;
        Ok(Response::new(ListRunsResponse { runs: runs.iter().map(run).collect::<Result<_, _>>()? }))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let models = self.app.registry.models().await.map_err(refuse)?;
        Ok(Response::new(ListModelsResponse { models: objects(&models)? }))
    }

    async fn register_version(
        &self,
        request: Request<RegisterVersionRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        let new = request.into_inner();
        let signature = serde_json::Value::Object(from_struct(new.signature.unwrap_or_default()));
        let signature: Signature = serde_json::from_value(signature)
            .map_err(|e| status(ErrorCode::InvalidArgument, format!("signature: {e}")))?;
        let new = NewVersion {
            model: read("model", &new.model)?,
            run: read("run", &new.run)?,
            files: new.files.into_iter().map(|(path, bytes)| (path, bytes.into())).collect(),
            signature,
            metrics: new.metrics.into_iter().collect(),
            tags: new.tags.into_iter().collect(),
        };
        version(&self.app.registry.register(new).await.map_err(refuse)?).map(Response::new)
    }

    async fn get_version(&self, request: Request<GetVersionRequest>) -> Result<Response<ModelVersion>, Status> {
        let request = request.into_inner();
        let of = model_ref(&request.model, request.version)?;
        version(&self.app.registry.version(&of).await.map_err(refuse)?).map(Response::new)
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let model: ModelName = read("model", &request.into_inner().model)?;
        let versions = self.app.registry.versions(&model).await.map_err(refuse)?;
        Ok(Response::new(ListVersionsResponse { versions: versions.iter().map(version).collect::<Result<_, _>>()? }))
    }

    async fn set_alias(&self, request: Request<SetAliasRequest>) -> Result<Response<ModelVersion>, Status> {
        let request = request.into_inner();
        let of = model_ref(&request.model, request.version)?;
        self.app
            .registry
            .set_alias(&of.model, &request.alias, of.version, &storage::caller_or("grpc"), &request.reason)
            .await
            .map_err(refuse)?;
        version(&self.app.registry.version(&of).await.map_err(refuse)?).map(Response::new)
    }

    async fn get_lineage(&self, request: Request<GetVersionRequest>) -> Result<Response<Lineage>, Status> {
        let request = request.into_inner();
        let of = model_ref(&request.model, request.version)?;
        let graph = self.app.registry.lineage(&of).await.map_err(refuse)?;
        Ok(Response::new(Lineage { nodes: objects(&graph.nodes)?, edges: objects(&graph.edges)? }))
    }
}
