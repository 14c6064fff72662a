//! Whether what is served online is what history says, and mending it where it is not.

use domain::{Timestamp, ViewName};

use crate::{
    FeatureStore,
    error::{FeatureError, unknown},
    pull::Stretch,
};

/// What was found of one view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub view: ViewName,
    /// Entities with rows in the stretch, whose online values were compared.
    pub entities: usize,
    /// Whether some differed, and the view's online values were built anew from history.
    pub rebuilt: bool,
}

impl FeatureStore {
    /// Compares the online values of every entity that has rows in the stretch, as of its end (`now` where it is open),
    /// with the point-in-time join. Rows that are stored and not yet online are brought online first; a view that
    /// still differs is built anew, and is not found online while that goes on. Rows of the view's source wait.
    ///
    /// # Errors
    /// `Unknown` view; what storage says.
    pub async fn verify_online(&self, view: &ViewName, stretch: Stretch) -> Result<Verified, FeatureError> {
        let catalog = self.0.catalog();
        let plan = catalog.views().find(|plan| plan.name == *view).cloned();
        let known = catalog.definitions.views.keys().map(AsRef::as_ref);
        let plan = plan.ok_or_else(|| unknown("FeatureView", view.as_str(), known))?;
        let source = catalog.source(&plan.source)?;
        let table = self.0.source_table(&plan.source)?;
        let _writing = table.writing.lock().await;
        self.0.catch_up(&source, &table).await?;
        let keys: Vec<String> = plan.keys.iter().map(|key| key.name.to_string()).collect();
        let entities = self.latest_rows(&plan.source, &keys, &keys, stretch).await?;
        let now = self.0.clock.now();
        let at: Vec<Timestamp> = vec![stretch.to.unwrap_or(now); entities.rows()];
        let wanted: Vec<(&str, &str)> =
            plan.outputs.iter().map(|output| (view.as_str(), output.name.as_str())).collect();
        let selection = self.select(&wanted)?;
        let built = self.0.layouts().await?.contains(&plan.layout);
        let agree = built
            && self.online_selected(&selection, &entities, &at).await?
                == self.historical_selected(&selection, &entities, &at).await?;
        if !agree {
            tracing::warn!(%view, entities = entities.rows(), "online values differ from history and are built anew");
            self.0.build_view(&source, &plan, &table).await?;
        }
        Ok(Verified { view: view.clone(), entities: entities.rows(), rebuilt: !agree })
    }
}
