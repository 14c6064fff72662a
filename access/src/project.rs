//! Projects: tenants of one server. The list of them is kept in the database of the first, `default`.

use domain::{EventKind, NewEvent, ProjectName, Timestamp};
use serde::Serialize;
use serde_json::json;

use crate::{Access, AccessError};

/// Longest name of a project: a schema of Postgres carries it.
const NAME_MAX: usize = 40;

/// The project that is always there. Its database also holds what concerns all projects.
#[must_use]
pub fn default_project() -> ProjectName {
    "default".parse().unwrap_or_else(|_| unreachable!("a lawful name"))
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Project {
    pub name: ProjectName,
    /// Absent for the first, which came with the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

impl Access {
    /// Every project, `default` first, then by name. To be asked of the `default` project.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub async fn projects(&self) -> Result<Vec<Project>, AccessError> {
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as("SELECT name, created_at, created_by FROM access_projects ORDER BY name")
                .fetch_all(self.0.meta.reader())
                .await?;
        let first = Project { name: default_project(), created_at: None, created_by: None };
        let rest = rows.into_iter().map(|(name, at, by)| {
            let name = name.parse().map_err(AccessError::damaged("project"))?;
            Ok(Project { name, created_at: Some(Timestamp::from_micros(at)), created_by: Some(by) })
        });
        std::iter::once(Ok(first)).chain(rest).collect()
    }

    /// Whether there is such a project.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub async fn has_project(&self, name: &ProjectName) -> Result<bool, AccessError> {
        let found: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM access_projects WHERE name = $1")
            .bind(name.as_str())
            .fetch_one(self.0.meta.reader())
            .await?;
        Ok(found > 0 || *name == default_project())
    }

    /// Adds a project to the list.
    ///
    /// # Errors
    /// A name that is taken or longer than 40 characters.
    pub async fn create_project(&self, name: &ProjectName, actor: &str) -> Result<Project, AccessError> {
        if name.as_str().len() > NAME_MAX {
            return Err(AccessError::Invalid {
                what: "name",
                problem: format!("is longer than {NAME_MAX} characters"),
            });
        }
        let (now, by) = (self.0.clock.now(), storage::caller_or(actor));
        let mut tx = self.0.meta.begin().await?;
        let there: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM access_projects WHERE name = $1")
            .bind(name.as_str())
            .fetch_one(tx.conn())
            .await?;
        if there > 0 || *name == default_project() {
            return Err(AccessError::ProjectExists(name.clone()));
        }
        sqlx::query("INSERT INTO access_projects (name, created_at, created_by) VALUES ($1, $2, $3)")
            .bind(name.as_str())
            .bind(now.micros())
            .bind(&by)
            .execute(tx.conn())
            .await?;
        tx.append(NewEvent {
            at: now,
            kind: EventKind::ProjectCreated,
            subject: format!("project/{name}"),
            actor: by.clone(),
            cause: None,
            body: json!({"project": name}),
        })
        .await?;
        tx.commit().await?;
        Ok(Project { name: name.clone(), created_at: Some(now), created_by: Some(by) })
    }
}
