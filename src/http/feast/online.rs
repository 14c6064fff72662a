//! Online values.

use axum::{extract::State, response::Response};
use serde::Deserialize;

use super::{Body, answer::Online};
use crate::{
    app::App,
    feast::{Refusal, entities::Entities, reference},
};

/// Which features of which entities.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnlineRequest {
    /// `view:feature`.
    #[serde(default)]
    features: Vec<String>,
    /// Instead of `features`.
    #[serde(default)]
    feature_service: Option<String>,
    entities: Entities,
    #[serde(default)]
    full_feature_names: bool,
    #[serde(default)]
    include_feature_view_version_metadata: bool,
}

/// Read features online, as Feast's clients do
///
/// `features` (`["view:feature"]`) or `feature_service`, and `entities` by column: `{"key": [values]}`. The answer is by
/// column, too: `results[i]` belongs to `metadata.feature_names[i]` and has a value, a status (PRESENT, NULL_VALUE,
/// NOT_FOUND, OUTSIDE_MAX_AGE) and an event timestamp for each entity, in order. Values are those of now.
#[utoipa::path(post, path = "/get-online-features", operation_id = "feastGetOnlineFeatures", tag = "feast",
    request_body = Object,
    responses((status = 200, description = "Values, statuses and event times by column", body = Object),
              (status = "4XX", description = "Feast's error: a JSON string with module, class and message", content_type = "application/json", body = String)))]
pub async fn get_online_features(
    State(app): State<App>,
    Body(request): Body<OnlineRequest>,
) -> Result<Response, Refusal> {
    let selection = match &request.feature_service {
        Some(service) => reference::choose_service(&app.features, service, request.full_feature_names)?,
        None => reference::choose(&app.features, &request.features, request.full_feature_names).await?,
    };
    let asked = request.entities.ask(&selection)?;
    let at = vec![app.clock.now(); asked.rows];
    let found = app.features.online_selected(&selection, &asked.keys, &at).await?;
    let versions = match request.include_feature_view_version_metadata {
        true => reference::versions(&app.features, &selection).await?,
        false => Vec::new(),
    };
    Online { selection: &selection, keys: &asked.keys, found: &found, full: request.full_feature_names, versions }
        .respond()
}
