use std::time::{Duration, Instant};

use ::pipelines::{Deployment, EndpointView};
use ::serving::{PredictRequest as Ask, Target as Share};
use domain::EndpointName;
use proto::{
    from_struct,
    serving::{
        DeployRequest, Endpoint, GetEndpointRequest, ListEndpointsRequest, ListEndpointsResponse, PredictRequest,
        PredictResponse, Prediction, serving_server::Serving,
    },
};
use serde_json::Value;
use tonic::{Request, Response, Status};

use super::{Door, object, read, refuse};

fn endpoint(name: &EndpointName, view: &EndpointView) -> Result<Endpoint, Status> {
    Ok(Endpoint { name: name.to_string(), body: Some(object(view)?) })
}

/// The deadline a client asked for in `grpc-timeout` (gRPC over HTTP/2: digits and a unit).
fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    let length = match unit {
        "H" => Duration::from_secs(count.checked_mul(3_600)?),
        "M" => Duration::from_secs(count.checked_mul(60)?),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Instant::now().checked_add(length)
}

#[tonic::async_trait]
impl Serving for Door {
    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let deadline = deadline(&request);
        let request = request.into_inner();
        let name: EndpointName = read("endpoint", &request.endpoint)?;
        let instances = request.instances.into_iter().map(|row| Value::Object(from_struct(row))).collect();
        let pin = Some(request.version).filter(|v| *v > 0);
        let answer = self.app.conductor.predict(&name, Ask { instances, deadline, pin }).await.map_err(refuse)?;
        let predictions = answer
            .predictions
            .into_iter()
            .map(|p| Prediction {
                id: p.id.to_string(),
                version: p.version,
                score: f64::from(p.score),
                positive: p.positive,
                event_timestamp: p.event_timestamp.to_string(),
            })
            .collect();
        Ok(Response::new(PredictResponse { predictions }))
    }

    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<Endpoint>, Status> {
        let request = request.into_inner();
        let name: EndpointName = read("endpoint", &request.endpoint)?;
        let targets = request.targets.iter().map(|t| Share { version: t.version, percent: t.percent }).collect();
        let deployment = Deployment { targets, shadow: request.shadow };
        self.app
            .conductor
            .deploy(&name, deployment, &storage::caller_or("grpc"), &request.reason)
            .await
            .map_err(refuse)?;
        endpoint(&name, &self.app.conductor.endpoint(&name).await.map_err(refuse)?).map(Response::new)
    }

    async fn get_endpoint(&self, request: Request<GetEndpointRequest>) -> Result<Response<Endpoint>, Status> {
        let name: EndpointName = read("endpoint", &request.into_inner().endpoint)?;
        endpoint(&name, &self.app.conductor.endpoint(&name).await.map_err(refuse)?).map(Response::new)
    }

    async fn list_endpoints(
        &self,
        _: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        let all = self.app.conductor.endpoints().await.map_err(refuse)?;
        let endpoints = all.iter().map(|view| endpoint(&view.definition.name, view)).collect::<Result<_, _>>()?;
        Ok(Response::new(ListEndpointsResponse { endpoints }))
    }
}
