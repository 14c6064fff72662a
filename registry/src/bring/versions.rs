//! Registered models, versions and aliases of another store.

use domain::{EventKind, ModelName, ModelRef};
use serde_json::json;

use super::{ACTOR, Brought, BroughtModel, BroughtVersion, mark, marked, refused};
use crate::{Registry, RegistryError, SourcedVersion, alias, model_tag, numbering::Original, version};

impl Registry {
    pub(super) async fn bring_model(&self, new: BroughtModel) -> Result<Brought, RegistryError> {
        version::check_description(&new.description)?;
        model_tag::check(&new.tags)?;
        let mut tx = self.begin().await?;
        let known: Option<String> = sqlx::query_scalar("SELECT name FROM registry_models WHERE name = $1")
            .bind(new.name.as_str())
            .fetch_optional(tx.conn())
            .await?;
        if known.is_some() {
            return if marked(tx.conn(), "model", new.name.as_str()).await? {
                Ok(Brought::Same)
            } else {
                refused(format!("another model `{}` is here", new.name))
            };
        }
        sqlx::query(
            "INSERT INTO registry_models (name, last_version, description, user_id, created_at, updated_at)
             VALUES ($1, $2, $3, '', $4, $5)",
        )
        .bind(new.name.as_str())
        .bind(i64::from(new.last_version))
        .bind(&new.description)
        .bind(new.created_at.micros())
        .bind(new.updated_at.micros())
        .execute(tx.conn())
        .await?;
        for (key, value) in &new.tags {
            model_tag::write(tx.conn(), model_tag::Of::Model(&new.name), key, value).await?;
        }
        mark(tx.conn(), "model", new.name.as_str()).await?;
        let body = json!({"model": new.name, "imported": true});
        self.tell_brought(&mut tx, EventKind::ModelCreated, format!("model/{}", new.name), body).await?;
        tx.commit().await?;
        Ok(Brought::Made)
    }

    pub(super) async fn bring_version(&self, new: BroughtVersion) -> Result<Brought, RegistryError> {
        let reference = ModelRef { model: new.model.clone(), version: new.version };
        {
            let mut conn = self.meta().reader().acquire().await?;
            if !marked(&mut conn, "model", new.model.as_str()).await? {
                return refused(format!("another model `{}` is here", new.model));
            }
            if marked(&mut conn, "version", &reference.to_string()).await? {
                return Ok(Brought::Same);
            }
        }
        let original = Original {
            number: new.version,
            stage: new.stage,
            created_at: new.created_at,
            updated_at: new.updated_at,
            mark: ("version", reference.to_string()),
        };
        let sourced = SourcedVersion {
            source: new.source,
            run: new.run,
            logged_model: new.logged_model,
            tags: new.tags,
            description: new.description,
            user_id: new.user_id,
            run_link: new.run_link,
        };
        self.register_sourced(&new.model, sourced, Some(original)).await?;
        Ok(Brought::Made)
    }

    pub(super) async fn bring_alias(
        &self,
        model: ModelName,
        name: &str,
        version: u32,
    ) -> Result<Brought, RegistryError> {
        let known = {
            let mut conn = self.meta().reader().acquire().await?;
            alias::load(&mut conn, &model).await?.into_iter().find(|known| known.alias == name)
        };
        match known {
            Some(known) if known.version == version => Ok(Brought::Same),
            Some(known) => refused(format!("alias `{name}` of `{model}` points at version {} here", known.version)),
            None => {
                self.set_alias(&model, name, version, ACTOR, "imported").await?;
                Ok(Brought::Made)
            }
        }
    }
}
