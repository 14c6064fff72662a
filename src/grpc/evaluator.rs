use ::evaluator::{AlertFilter, Bucket, LabelReport, PredictionFilter, QualityQuery};
use domain::{
    EndpointName, ErrorCode, TaskId,
    prediction::{Label as Known, LabelOrigin, LabelTarget},
    state::TaskState,
};
use proto::evaluator::{
    AnswerReviewTaskRequest, ListAlertsRequest, ListReviewTasksRequest, PostLabelsRequest, PostLabelsResponse,
    QualityRequest, RangeRequest, Rows, evaluator_server::Evaluator, label::Target,
};
use tonic::{Request, Response, Status};

use super::{Door, limit, objects, read, read_opt, refuse, status};

fn rows<T: serde::Serialize>(values: &[T]) -> Result<Response<Rows>, Status> {
    Ok(Response::new(Rows { rows: objects(values)? }))
}

/// Counts; a report that is nothing but problems is the first problem.
fn report(report: LabelReport) -> Result<Response<PostLabelsResponse>, Status> {
    match report.problems.first() {
        Some(problem) if report.joined + report.unmatched + report.already == 0 => {
            Err(status(problem.code, problem.message.clone()))
        }
        _ => Ok(Response::new(PostLabelsResponse {
            joined: report.joined,
            unmatched: report.unmatched,
            already: report.already,
        })),
    }
}

#[tonic::async_trait]
impl Evaluator for Door {
    async fn post_labels(&self, request: Request<PostLabelsRequest>) -> Result<Response<PostLabelsResponse>, Status> {
        let request = request.into_inner();
        let endpoint: EndpointName = read("endpoint", &request.endpoint)?;
        let now = self.app.event_now(&endpoint).await;
        let labels = request
            .labels
            .into_iter()
            .map(|label| {
                let target = match label.target {
                    Some(Target::PredictionId(id)) => LabelTarget::Prediction(read("prediction_id", &id)?),
                    Some(Target::Key(key)) => LabelTarget::Key(key.into()),
                    None => return Err(status(ErrorCode::InvalidArgument, "labels: give prediction_id or key")),
                };
                let known_at = read_opt("known_at", &label.known_at)?.unwrap_or(now);
                Ok(Known { target, value: label.value, known_at, origin: LabelOrigin::Outcome, reviewer: None })
            })
            .collect::<Result<_, _>>()?;
        report(self.app.conductor.label(&endpoint, labels).await.map_err(refuse)?)
    }

    async fn get_quality(&self, request: Request<QualityRequest>) -> Result<Response<Rows>, Status> {
        let request = request.into_inner();
        let endpoint: EndpointName = read("endpoint", &request.endpoint)?;
        let bucket: Bucket = if request.bucket.is_empty() {
            Bucket::default()
        } else {
            serde_json::from_value(request.bucket.into())
                .map_err(|e| status(ErrorCode::InvalidArgument, format!("bucket: {e}")))?
        };
        let query = QualityQuery {
            from: read_opt("from", &request.from)?,
            to: read_opt("to", &request.to)?,
            bucket,
            slice: Some(request.slice).filter(|s| !s.is_empty()),
        };
        rows(&self.app.evaluator.quality(&endpoint, query).await.map_err(refuse)?)
    }

    async fn get_drift_reports(&self, request: Request<RangeRequest>) -> Result<Response<Rows>, Status> {
        let request = request.into_inner();
        let endpoint: EndpointName = read("endpoint", &request.endpoint)?;
        let (from, to) = (read_opt("from", &request.from)?, read_opt("to", &request.to)?);
        rows(&self.app.evaluator.reports(&endpoint, from, to).await.map_err(refuse)?)
    }

    async fn list_predictions(&self, request: Request<RangeRequest>) -> Result<Response<Rows>, Status> {
        let request = request.into_inner();
        let endpoint: EndpointName = read("endpoint", &request.endpoint)?;
        let filter = PredictionFilter {
            from: read_opt("from", &request.from)?,
            to: read_opt("to", &request.to)?,
            limit: limit(request.limit, 100),
            newest: true,
        };
        rows(&self.app.evaluator.predictions(&endpoint, filter).await.map_err(refuse)?)
    }

    async fn list_alerts(&self, request: Request<ListAlertsRequest>) -> Result<Response<Rows>, Status> {
        let request = request.into_inner();
        let filter = AlertFilter {
            endpoint: read_opt("endpoint", &request.endpoint)?,
            state: None,
            limit: limit(request.limit, 100),
        };
        rows(&self.app.evaluator.alerts(filter).await.map_err(refuse)?)
    }

    async fn list_review_tasks(&self, request: Request<ListReviewTasksRequest>) -> Result<Response<Rows>, Status> {
        let request = request.into_inner();
        let endpoint: EndpointName = read("endpoint", &request.endpoint)?;
        let state = if request.state.is_empty() {
            TaskState::Queued
        } else {
            TaskState::parse(&request.state)
                .ok_or_else(|| status(ErrorCode::InvalidArgument, "state: write queued, answered or withdrawn"))?
        };
        rows(&self.app.evaluator.tasks(&endpoint, Some(state), limit(request.limit, 100)).await.map_err(refuse)?)
    }

    async fn answer_review_task(
        &self,
        request: Request<AnswerReviewTaskRequest>,
    ) -> Result<Response<PostLabelsResponse>, Status> {
        let request = request.into_inner();
        let task: TaskId = read("task", &request.task)?;
        report(
            self.app
                .conductor
                .answer(&task, request.value, &storage::caller_or(&request.reviewer))
                .await
                .map_err(refuse)?,
        )
    }
}
