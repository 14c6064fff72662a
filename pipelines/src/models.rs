//! Changes of registered models that would pull a version from under an endpoint: refused while one serves it.

use domain::{ModelName, ModelRef};
use registry::RegisteredModel;

use crate::{Conductor, ConductorError, error::Asking};

impl Conductor {
    /// Deletes a version.
    ///
    /// # Errors
    /// An unknown version, or one that an endpoint serves or compares with.
    pub async fn delete_version(&self, version: &ModelRef, actor: &str) -> Result<(), ConductorError> {
        let _alone = self.0.changing.lock().await;
        self.unserved(&version.model, Some(version.version)).await?;
        self.rooms().registry.delete_version(version, actor).await.asking("delete the version")
    }

    /// Deletes a model with all its versions.
    ///
    /// # Errors
    /// An unknown model, or one of which an endpoint serves a version.
    pub async fn delete_model(&self, model: &ModelName, actor: &str) -> Result<(), ConductorError> {
        let _alone = self.0.changing.lock().await;
        self.unserved(model, None).await?;
        self.rooms().registry.delete_model(model, actor).await.asking("delete the model")
    }

    /// Gives a model another name. Endpoints know their model by its name, so one that serves it stands in the way.
    ///
    /// # Errors
    /// An unknown model, a name that is taken, or a model of which an endpoint serves a version.
    pub async fn rename_model(&self, from: &ModelName, to: &ModelName) -> Result<RegisteredModel, ConductorError> {
        let _alone = self.0.changing.lock().await;
        self.unserved(from, None).await?;
        self.rooms().registry.rename_model(from, to).await.asking("rename the model")
    }

    /// Fails if an endpoint has the version, or any of the model.
    async fn unserved(&self, model: &ModelName, version: Option<u32>) -> Result<(), ConductorError> {
        let endpoints: Vec<_> = self.known(|known| {
            let of_model = known.endpoints.values().filter(|endpoint| endpoint.model == *model);
            of_model.map(|endpoint| endpoint.name.clone()).collect()
        });
        for endpoint in endpoints {
            let Some(deployed) = self.deployed(&endpoint).await? else { continue };
            let versions = deployed.versions();
            let in_use = version.map_or(versions.first(), |version| versions.get(&version));
            if let Some(version) = in_use {
                return Err(ConductorError::StillServed {
                    version: ModelRef { model: model.clone(), version: *version },
                    endpoint,
                });
            }
        }
        Ok(())
    }
}
