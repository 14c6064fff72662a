use ::registry::Reach;
use domain::{
    Digest, ErrorCode,
    lineage::{Direction, NodeRef},
};
use proto::pipelines::{ImpactRequest, ImpactResponse, LineageGraph, LineageRequest, lineage_server::Lineage};
use tonic::{Request, Response, Status};

use super::{Door, limit, object, objects, read, refuse, status};

#[tonic::async_trait]
impl Lineage for Door {
    async fn trace(&self, request: Request<LineageRequest>) -> Result<Response<LineageGraph>, Status> {
        let request = request.into_inner();
        let node: NodeRef = read("node", &request.node)?;
        let direction = if request.direction.is_empty() { "both" } else { &request.direction };
        let direction = Direction::parse(direction)
            .ok_or_else(|| status(ErrorCode::InvalidArgument, "direction: write up, down or both"))?;
        let reach = Reach { depth: limit(request.depth, 10), nodes: limit(request.limit, 500) };
        let found = self.app.conductor.lineage(&node, direction, reach).await.map_err(refuse)?;
        let cut = found.cut.unwrap_or_default();
        Ok(Response::new(LineageGraph { nodes: objects(&found.nodes)?, edges: objects(&found.edges)?, cut }))
    }

    async fn impact(&self, request: Request<ImpactRequest>) -> Result<Response<ImpactResponse>, Status> {
        let dataset: Digest = read("dataset", &request.into_inner().dataset)?;
        let found = self.app.conductor.impact(&dataset).await.map_err(refuse)?;
        Ok(Response::new(ImpactResponse { body: Some(object(&found)?) }))
    }
}
