//! Which blobs the registry's rows name.

use std::collections::HashSet;

use async_trait::async_trait;
use domain::Digest;
use storage::{References, StorageError, digests_in, sql::Conn};

use crate::{Registry, query::Statement};

/// Tables with a digest in a column of that name.
const TABLES: [&str; 4] =
    ["registry_artifacts", "registry_version_files", "registry_upload_parts", "registry_datasets"];

#[async_trait]
impl References for Registry {
    async fn named(&self, conn: &mut Conn, of: &[Digest]) -> Result<HashSet<Digest>, StorageError> {
        let mut statement = Statement::default();
        for table in TABLES {
            if !statement.text().is_empty() {
                statement.push(" UNION ");
            }
            statement.push("SELECT digest FROM ").push(table).push(" WHERE digest IN (");
            statement.bind_all(of.iter().map(Digest::to_string)).push(")");
        }
        let rows: Vec<(String,)> = statement.query_as().fetch_all(&mut *conn).await?;
        let mut named: HashSet<Digest> = rows.iter().flat_map(|(digest,)| digests_in(digest)).collect();
        // A dataset's parts stand in its row; there are as many datasets as there were trainings.
        let parts: Vec<(String,)> = sqlx::query_as("SELECT blobs FROM registry_datasets").fetch_all(conn).await?;
        let parts: HashSet<Digest> = parts.iter().flat_map(|(blobs,)| digests_in(blobs)).collect();
        named.extend(of.iter().filter(|digest| parts.contains(digest)));
        Ok(named)
    }
}
