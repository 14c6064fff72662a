//! Which blobs the conductor's rows name: what its steps left behind.

use std::collections::HashSet;

use async_trait::async_trait;
use domain::Digest;
use storage::{References, StorageError, digests_in, sql::Conn};

use crate::Conductor;

#[async_trait]
impl References for Conductor {
    async fn named(&self, conn: &mut Conn, of: &[Digest]) -> Result<HashSet<Digest>, StorageError> {
        let results: Vec<(String,)> = sqlx::query_as(
            "SELECT result FROM pipeline_results
             UNION ALL SELECT result FROM pipeline_steps WHERE result IS NOT NULL",
        )
        .fetch_all(conn)
        .await?;
        let all: HashSet<Digest> = results.iter().flat_map(|(result,)| digests_in(result)).collect();
        Ok(of.iter().copied().filter(|digest| all.contains(digest)).collect())
    }
}
