//! Files of the server's disk as a source of rows.

use domain::SourceName;
use proto::features::{LoadList, LoadNumber, LoadRequest};
use tonic::Status;

use super::{Door, limit, object, objects, read, refuse};

impl Door {
    pub(super) async fn load_files(&self, request: LoadRequest) -> Result<prost_types::Struct, Status> {
        let source: SourceName = read("source", &request.source)?;
        let caller = storage::caller_or("grpc");
        object(&self.app.features.load(&source, &request.path, &caller).await.map_err(refuse)?)
    }

    pub(super) async fn load_state(&self, request: LoadNumber) -> Result<prost_types::Struct, Status> {
        object(&self.app.features.load_state(request.number).await.map_err(refuse)?)
    }

    pub(super) async fn loads(&self, most: u32) -> Result<LoadList, Status> {
        Ok(LoadList { loads: objects(&self.app.features.loads(limit(most, 100).min(1_000)).await.map_err(refuse)?)? })
    }
}
