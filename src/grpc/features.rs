use domain::{ServiceName, SourceName, Span};
use feature_store::{Answer, GuardReport, IngestReport, StreamState};
use futures::stream::BoxStream;
use proto::{
    features::{
        CheckConsistencyRequest, CheckConsistencyResponse, Compaction, ConsistencyRequest, ConsistencyResponse,
        DiscardRequest, DiscardResponse, FeatureRequest, FeatureResponse, IngestRequest, IngestResponse, Ingestion,
        IngestionRequest, JoinPlan, JoinPlanRequest, ListLoadsRequest, ListStreamsRequest, ListStreamsResponse,
        LoadList, LoadNumber, LoadRequest, PushResponse, QuarantineRequest, QuarantineResponse, ReplayRequest,
        ReplayResponse, RowError, Stream, StreamRequest, Table, TableRequest, Vacuum, VacuumRequest,
        feature_store_server::FeatureStore,
    },
    from_struct, to_struct,
};
use serde_json::Value;
use tonic::{Request, Response, Status, Streaming};

use super::{Door, objects, quarantine::reasons, read, refuse};
use crate::rows::{self, Rows, Spine};

pub(super) fn report(report: IngestReport) -> Result<IngestResponse, Status> {
    let error = |e: feature_store::RowError| RowError {
        line: e.line,
        column: e.column.unwrap_or_default(),
        reason: e.reason,
        code: e.code.to_string(),
    };
    Ok(IngestResponse {
        accepted: report.accepted,
        duplicates: report.duplicates,
        corrections: report.corrections,
        quarantined: report.quarantined,
        first_errors: report.first_errors.into_iter().map(error).collect(),
        reasons: reasons(report.reasons),
        dropped: report.dropped,
        drift: objects(&report.drift)?,
    })
}

fn stream(state: StreamState) -> Stream {
    Stream {
        source: state.source.to_string(),
        redis: state.redis,
        key: state.key,
        group: state.group,
        phase: state.phase.as_str().to_owned(),
        error: state.error.unwrap_or_default(),
        lag: state.lag,
        pending: state.pending,
        acknowledged: state.acknowledged,
        claimed: state.claimed,
        last_read: state.last_read.map(|at| at.to_string()).unwrap_or_default(),
    }
}

fn respond(spine: &Spine, answer: &Answer) -> Response<FeatureResponse> {
    let structs = |rows: Rows| rows.into_iter().map(|row| to_struct(Value::Object(row))).collect();
    Response::new(FeatureResponse {
        rows: structs(rows::values(spine, answer)),
        status: structs(rows::statuses(answer)),
    })
}

impl Door {
    pub(super) async fn ingest_rows(&self, request: IngestRequest) -> Result<IngestReport, Status> {
        let source: SourceName = read("source", &request.source)?;
        let rows: Rows = request.rows.into_iter().map(from_struct).collect();
        let taken = self.app.features.ingest_rows(&source, rows).await.map_err(refuse)?;
        crate::counts::ingested(&self.app.metrics, &source, &taken);
        Ok(taken)
    }

    fn spine(&self, request: FeatureRequest) -> Result<(ServiceName, Spine), Status> {
        let service: ServiceName = read("service", &request.service)?;
        let rows: Rows = request.rows.into_iter().map(from_struct).collect();
        let spine = rows::spine(&self.app.features, &service, &rows, self.app.clock.now()).map_err(refuse)?;
        Ok((service, spine))
    }
}

#[tonic::async_trait]
impl FeatureStore for Door {
    async fn ingest(&self, request: Request<IngestRequest>) -> Result<Response<IngestResponse>, Status> {
        self.ingest_rows(request.into_inner()).await.and_then(report).map(Response::new)
    }

    async fn ingest_stream(
        &self,
        request: Request<Streaming<IngestRequest>>,
    ) -> Result<Response<IngestResponse>, Status> {
        let mut batches = request.into_inner();
        let mut total = IngestReport::default();
        // One message is read when the one before is durable: a client that is faster waits.
        while let Some(batch) = batches.message().await? {
            total.add(self.ingest_rows(batch).await?);
        }
        report(total).map(Response::new)
    }

    type PushStream = BoxStream<'static, Result<PushResponse, Status>>;

    async fn push(&self, request: Request<Streaming<IngestRequest>>) -> Result<Response<Self::PushStream>, Status> {
        Ok(Response::new(self.answer_each(request.into_inner())))
    }

    async fn get_ingestion(&self, request: Request<IngestionRequest>) -> Result<Response<Ingestion>, Status> {
        self.ingestion(request.into_inner()).await.map(Response::new)
    }

    async fn list_quarantine(
        &self,
        request: Request<QuarantineRequest>,
    ) -> Result<Response<QuarantineResponse>, Status> {
        self.quarantine(request.into_inner()).await.map(Response::new)
    }

    async fn replay_quarantine(&self, request: Request<ReplayRequest>) -> Result<Response<ReplayResponse>, Status> {
        self.replay(request.into_inner()).await.map(Response::new)
    }

    async fn discard_quarantine(&self, request: Request<DiscardRequest>) -> Result<Response<DiscardResponse>, Status> {
        self.discard(request.into_inner()).await.map(Response::new)
    }

    async fn load(&self, request: Request<LoadRequest>) -> Result<Response<prost_types::Struct>, Status> {
        self.load_files(request.into_inner()).await.map(Response::new)
    }

    async fn get_load(&self, request: Request<LoadNumber>) -> Result<Response<prost_types::Struct>, Status> {
        self.load_state(request.into_inner()).await.map(Response::new)
    }

    async fn list_loads(&self, request: Request<ListLoadsRequest>) -> Result<Response<LoadList>, Status> {
        self.loads(request.into_inner().limit).await.map(Response::new)
    }

    async fn list_streams(&self, _: Request<ListStreamsRequest>) -> Result<Response<ListStreamsResponse>, Status> {
        let streams = self.app.features.streams().into_iter().map(stream).collect();
        Ok(Response::new(ListStreamsResponse { streams }))
    }

    async fn pause_stream(&self, request: Request<StreamRequest>) -> Result<Response<Stream>, Status> {
        let source: SourceName = read("source", &request.into_inner().source)?;
        let state = self.app.features.pause_stream(&source, &storage::caller_or("grpc")).await.map_err(refuse)?;
        Ok(Response::new(stream(state)))
    }

    async fn resume_stream(&self, request: Request<StreamRequest>) -> Result<Response<Stream>, Status> {
        let source: SourceName = read("source", &request.into_inner().source)?;
        let state = self.app.features.resume_stream(&source, &storage::caller_or("grpc")).await.map_err(refuse)?;
        Ok(Response::new(stream(state)))
    }

    async fn get_online_features(&self, request: Request<FeatureRequest>) -> Result<Response<FeatureResponse>, Status> {
        let (service, spine) = self.spine(request.into_inner())?;
        let found = self.app.features.online(&service, &spine.keys, &spine.at).await.map_err(refuse)?;
        Ok(respond(&spine, &found))
    }

    async fn get_historical_features(
        &self,
        request: Request<FeatureRequest>,
    ) -> Result<Response<FeatureResponse>, Status> {
        let (service, spine) = self.spine(request.into_inner())?;
        let found = self.app.features.historical(&service, &spine.keys, &spine.at).await.map_err(refuse)?;
        Ok(respond(&spine, &found))
    }

    async fn plan_historical_features(&self, request: Request<JoinPlanRequest>) -> Result<Response<JoinPlan>, Status> {
        let JoinPlanRequest { service, questions } = request.into_inner();
        let service: ServiceName = read("service", &service)?;
        let plan = self.app.features.join_plan(&service, questions).map_err(refuse)?;
        let (place, feature_store::JoinPlan { reason, questions, rows, bytes, .. }) = (plan.place.to_string(), plan);
        Ok(Response::new(JoinPlan { place, reason, questions, rows, bytes }))
    }

    async fn get_table(&self, request: Request<TableRequest>) -> Result<Response<Table>, Status> {
        let source: SourceName = read("source", &request.into_inner().source)?;
        let table = self.app.features.table(&source).await.map_err(refuse)?;
        Ok(Response::new(Table {
            location: table.location,
            version: table.version,
            rows: table.rows,
            unsealed_rows: table.unsealed_rows,
            file_rows: table.file_rows,
            files: table.files,
            bytes: table.bytes,
        }))
    }

    async fn compact_table(&self, request: Request<TableRequest>) -> Result<Response<Compaction>, Status> {
        let source: SourceName = read("source", &request.into_inner().source)?;
        let done = self.app.features.compact(&source, &storage::caller_or("grpc")).await.map_err(refuse)?;
        Ok(Response::new(Compaction {
            rows_sealed: done.rows_sealed,
            files_before: done.files_before,
            files_after: done.files_after,
            bytes_before: done.bytes_before,
            bytes_after: done.bytes_after,
            rows_dropped: done.rows_dropped,
            more: done.more,
        }))
    }

    async fn vacuum_table(&self, request: Request<VacuumRequest>) -> Result<Response<Vacuum>, Status> {
        let VacuumRequest { source, keep } = request.into_inner();
        let source: SourceName = read("source", &source)?;
        let keep: Span = read("keep", if keep.is_empty() { "30d" } else { &keep })?;
        let gone = self.app.features.vacuum(&source, keep, &storage::caller_or("grpc")).await.map_err(refuse)?;
        Ok(Response::new(Vacuum { files: gone.files, bytes: gone.bytes }))
    }

    async fn get_consistency(
        &self,
        request: Request<ConsistencyRequest>,
    ) -> Result<Response<ConsistencyResponse>, Status> {
        let limit = match request.into_inner().limit {
            0 => 100,
            limit => limit.min(10_000) as usize,
        };
        let state = self.app.features.consistency(limit).await.map_err(refuse)?;
        Ok(Response::new(ConsistencyResponse {
            share: state.share,
            waiting: state.waiting as u64,
            dropped: state.dropped,
            total: Some(checked(&state.total)),
            mismatches: objects(&state.mismatches)?,
        }))
    }

    async fn check_consistency(
        &self,
        _: Request<CheckConsistencyRequest>,
    ) -> Result<Response<CheckConsistencyResponse>, Status> {
        let report = crate::consistency::check(&self.app.features, &self.app.metrics).await.map_err(refuse)?;
        Ok(Response::new(checked(&report)))
    }
}

const fn checked(report: &GuardReport) -> CheckConsistencyResponse {
    CheckConsistencyResponse {
        vectors: report.vectors,
        values: report.values,
        gone: report.gone,
        late_data: report.late_data,
        definition_change: report.definition_change,
        lost_write: report.lost_write,
    }
}
