//! Addresses at which clients find bytes by themselves, where those lie in a bucket.

use std::time::Duration;

use axum::extract::State;
use registry::{Artifact, ArtifactPath};
use serde_json::{Map, Value, json};
use storage::Signed;

use super::{Target, download::disposition};
use crate::{
    app::App,
    http::mlflow::wire::{Answer, Fields, Refusal},
};

/// As long as MLflow's own server lets an address live where nobody asks for more.
const VALID: Duration = Duration::from_secs(900);
const VALID_SECONDS_MAX: i64 = 7 * 24 * 60 * 60;

/// What has to be sent along.
pub(super) fn sent_along(to: &Signed) -> Map<String, Value> {
    to.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
}

/// The client asks on for the file itself, if it knows that this may happen.
fn not_offered(what: &str) -> Refusal {
    let message =
        format!("{what} is not supported for the current artifact repository: files come through this server");
    Refusal { status: 501, error_code: "NOT_IMPLEMENTED", message }
}

async fn address(app: &App, file: &Artifact, path: &ArtifactPath, valid: Duration) -> Result<Signed, Refusal> {
    let found = app.registry.artifact_address(file, &disposition(path.name()), valid).await?;
    found.ok_or_else(|| not_offered("Multipart download"))
}

pub async fn proxied(State(app): State<App>, target: Target) -> Answer {
    if !app.registry.is_direct() {
        return Err(not_offered("Multipart download"));
    }
    let path = target.0?;
    let file = app.registry.artifact(&path).await?;
    let to = address(&app, &file, &path, VALID).await?;
    Ok(json!({"url": to.url, "headers": sent_along(&to), "file_size": file.bytes}).into())
}

pub async fn download(State(app): State<App>, fields: Fields) -> Answer {
    let path: ArtifactPath = fields.text("path")?.parse()?;
    let valid = match fields.int_opt("expiration")? {
        None => VALID,
        Some(seconds @ 1..=VALID_SECONDS_MAX) => Duration::from_secs(seconds.unsigned_abs()),
        Some(other) => {
            let message = format!("expiration must be between 1 and {VALID_SECONDS_MAX} seconds (got {other})");
            return Err(Refusal::invalid(message));
        }
    };
    let file = match fields.text_opt("model_id")? {
        Some(model) => app.registry.logged_model_artifact(&model, &path).await?,
        None => app.registry.run_artifact(&fields.run_id()?, &path).await?,
    };
    let to = address(&app, &file, &path, valid).await?;
    Ok(json!({"presigned_url": to.url, "headers": sent_along(&to), "file_size": file.bytes}).into())
}

/// A file that a client puts somewhere by one request, and says no more about, would have no digest: parts are completed.
pub async fn upload() -> Refusal {
    not_offered("Presigned upload")
}
