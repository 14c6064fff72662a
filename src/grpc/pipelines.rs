use ::pipelines::{Cause, RunFilter};
use domain::{PipelineName, PipelineRunId};
use proto::pipelines::{
    ApplyRequest, ApplyResponse, Change, Event, GetRunRequest, ListDefinitionsRequest, ListDefinitionsResponse,
    ListEventsRequest, ListEventsResponse, ListRunsRequest, ListRunsResponse, PipelineRun, TriggerRequest,
    TriggerResponse, pipelines_server::Pipelines,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Door, limit, object, objects, read, read_opt, refuse};

fn run(run: &::pipelines::PipelineRun) -> Result<PipelineRun, Status> {
    Ok(PipelineRun { id: run.id.to_string(), body: Some(object(run)?) })
}

fn event(event: domain::Event) -> Event {
    Event {
        seq: event.seq,
        at: event.at.to_string(),
        kind: event.kind.as_str().to_owned(),
        subject: event.subject,
        actor: event.actor,
        cause: event.cause.unwrap_or(0),
        body: Some(proto::to_struct(event.body)),
    }
}

/// Events sent ahead of a slow follower.
const AHEAD: usize = 64;

#[tonic::async_trait]
impl Pipelines for Door {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let request = request.into_inner();
        let definitions = ::pipelines::parse(&request.yaml).map_err(refuse)?;
        let changes = self
            .app
            .conductor
            .apply(definitions, &storage::caller_or("grpc"), request.dry_run)
            .await
            .map_err(refuse)?;
        let changes = changes
            .into_iter()
            .map(|c| Change {
                action: format!("{:?}", c.action).to_lowercase(),
                kind: c.kind,
                name: c.name,
                detail: c.detail,
            })
            .collect();
        Ok(Response::new(ApplyResponse { changes }))
    }

    async fn list_definitions(
        &self,
        _: Request<ListDefinitionsRequest>,
    ) -> Result<Response<ListDefinitionsResponse>, Status> {
        let definitions = objects(&self.app.conductor.definitions())?;
        Ok(Response::new(ListDefinitionsResponse { definitions }))
    }

    async fn trigger(&self, request: Request<TriggerRequest>) -> Result<Response<TriggerResponse>, Status> {
        let request = request.into_inner();
        let pipeline: PipelineName = read("pipeline", &request.pipeline)?;
        let cutoff = read_opt("cutoff", &request.cutoff)?;
        let cause = Cause::manual(request.reason);
        let run = self.app.conductor.trigger(&pipeline, cause, cutoff).await.map_err(refuse)?;
        Ok(Response::new(TriggerResponse { run: run.to_string() }))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<PipelineRun>, Status> {
        let id: PipelineRunId = read("run", &request.into_inner().run)?;
        run(&self.app.conductor.run(&id).await.map_err(refuse)?).map(Response::new)
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        let request = request.into_inner();
        let filter = RunFilter { pipeline: read_opt("pipeline", &request.pipeline)?, limit: limit(request.limit, 100) };
        let runs = self.app.conductor.runs(&filter).await.map_err(refuse)?;
        Ok(Response::new(ListRunsResponse { runs: runs.iter().map(run).collect::<Result<_, _>>()? }))
    }

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        let request = request.into_inner();
        let events = self.app.meta.journal().read(request.after, limit(request.limit, 100)).await.map_err(refuse)?;
        Ok(Response::new(ListEventsResponse { events: events.into_iter().map(event).collect() }))
    }

    type FollowEventsStream = ReceiverStream<Result<Event, Status>>;

    async fn follow_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<Self::FollowEventsStream>, Status> {
        let mut after = request.into_inner().after;
        let (to, from) = tokio::sync::mpsc::channel(AHEAD);
        let journal = self.app.meta.journal().clone();
        let mut newest = journal.watch();
        self.app.house.spawn("follow events", |stop| async move {
            loop {
                match journal.read(after, AHEAD).await {
                    Ok(events) => {
                        for next in events {
                            after = next.seq;
                            if to.send(Ok(event(next))).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => {
                        // The follower may be gone: there is nobody else to tell.
                        let _ = to.send(Err(refuse(error))).await;
                        return;
                    }
                }
                if *newest.borrow_and_update() > after {
                    continue;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = to.closed() => return,
                    changed = newest.changed() => if changed.is_err() { return },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(from)))
    }
}
