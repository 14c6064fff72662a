//! Artifacts through the server: files in, files out, lists of directories.

mod download;
mod incoming;
mod presigned;
mod uploads;

use std::convert::Infallible;

use axum::{
    Router,
    extract::{FromRequestParts, Path, State},
    http::{Method, request::Parts},
    response::Response,
    routing::{get, post, put},
};
use registry::{ArtifactEntry, ArtifactListing, ArtifactPath};
use serde_json::{Value, json};

use super::wire::{Answer, Fields, Refusal, done, trimmed};
use crate::app::App;
use download::{Asked, serve};
use incoming::Incoming;

/// Under `/api/2.0/mlflow`.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/artifacts/list", get(list_run))
        .route("/logged-models/{id}/artifacts/directories", get(list_logged_model))
        .route("/artifacts/presigned-download-url", post(presigned::download))
        .route("/artifacts/presigned-upload-url", post(presigned::upload))
}

/// Under `/api/2.0/mlflow-artifacts`.
pub fn proxy_routes() -> Router<App> {
    Router::new()
        .route("/artifacts", get(list))
        .route("/artifacts/{*path}", put(upload).get(download).delete(delete))
        .route("/presigned/{*path}", get(presigned::proxied))
        .route("/mpu/create/{*path}", post(uploads::create))
        .route("/mpu/part/{upload}/{number}", put(uploads::part))
        .route("/mpu/complete/{*path}", post(uploads::complete))
        .route("/mpu/abort/{*path}", post(uploads::abort))
}

/// What the web pages download from.
pub fn page_routes() -> Router<App> {
    Router::new().route("/get-artifact", get(run_file)).route("/model-versions/get-artifact", get(version_file))
}

/// Whether a request of this route may take longer than any deadline: it brings a file, or has one put together. (A
/// file that leaves does so after its answer began.)
pub fn is_transfer(method: &Method, route: &str) -> bool {
    route.contains("/mlflow-artifacts/") && (method == Method::PUT || route.contains("/mpu/complete/"))
}

/// The path at the end of a URL, decoded once. A wrong one is found out by the handler, which may have a body to read
/// before it answers.
pub struct Target(Result<ArtifactPath, Refusal>);

impl Target {
    fn of(raw: &str) -> Self {
        // The client ends the path of a root in `/`.
        let path = ArtifactPath::directory(raw).map_err(Refusal::from);
        Self(path.and_then(|path| path.ok_or_else(|| Refusal::invalid("Invalid path: it is empty"))))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(raw)) => Self::of(&raw),
            Err(_) => Self(Err(Refusal::invalid("Invalid path: it decodes to what is not UTF-8"))),
        })
    }
}

async fn upload(State(app): State<App>, target: Target, mut body: Incoming) -> Answer {
    let stored = async {
        let (path, expected) = (target.0?, body.expected()?);
        app.registry.put_artifact(&path, body.pieces(), expected).await
    };
    let stored = stored.await;
    body.settle(stored).await?;
    done()
}

async fn download(State(app): State<App>, target: Target, asked: Asked) -> Result<Response, Refusal> {
    let path = target.0?;
    let file = app.registry.artifact(&path).await?;
    serve(&app, &file, path.name(), &asked).await
}

async fn delete(State(app): State<App>, target: Target) -> Answer {
    app.registry.delete_artifacts(&target.0?).await?;
    done()
}

fn entry(entry: &ArtifactEntry, path: String) -> Value {
    json!({"path": path, "is_dir": entry.is_dir(), "file_size": entry.bytes})
}

fn directory(fields: &Fields, name: &str) -> Result<Option<ArtifactPath>, Refusal> {
    Ok(ArtifactPath::directory(&fields.text_opt(name)?.unwrap_or_default())?)
}

async fn list(State(app): State<App>, fields: Fields) -> Answer {
    let entries = app.registry.list_directory(directory(&fields, "path")?.as_ref()).await?;
    let files: Vec<_> = entries.iter().map(|found| entry(found, found.name.clone())).collect();
    Ok(trimmed(json!({"files": files})).into())
}

async fn list_run(State(app): State<App>, fields: Fields) -> Answer {
    let directory = directory(&fields, "path")?;
    let run = fields.run_id()?;
    let listing = app.registry.list_artifacts(&run, directory.as_ref(), &fields.page_token()?).await?;
    Ok(page(directory.as_ref(), listing).into())
}

async fn list_logged_model(State(app): State<App>, Path(model): Path<String>, fields: Fields) -> Answer {
    let directory = directory(&fields, "artifact_directory_path")?;
    let token = fields.page_token()?;
    let listing = app.registry.list_logged_model_artifacts(&model, directory.as_ref(), &token).await?;
    Ok(page(directory.as_ref(), listing).into())
}

/// Paths are relative to the root.
fn page(directory: Option<&ArtifactPath>, listing: ArtifactListing) -> Value {
    let path = |name: &str| directory.map_or_else(|| name.to_owned(), |directory| format!("{directory}/{name}"));
    let files: Vec<_> = listing.entries.items.iter().map(|found| entry(found, path(&found.name))).collect();
    trimmed(json!({"root_uri": listing.root_uri, "files": files, "next_page_token": listing.entries.next}))
}

async fn run_file(State(app): State<App>, asked: Asked, fields: Fields) -> Result<Response, Refusal> {
    let path: ArtifactPath = fields.text("path")?.parse()?;
    let file = app.registry.run_artifact(&fields.run_id()?, &path).await?;
    serve(&app, &file, path.name(), &asked).await
}

async fn version_file(State(app): State<App>, asked: Asked, fields: Fields) -> Result<Response, Refusal> {
    let path: ArtifactPath = fields.text("path")?.parse()?;
    let version = fields.text("version")?;
    let number =
        version.parse::<u32>().map_err(|_| Refusal::invalid(format!("version {version:?} is not a number")))?;
    let file = app.registry.version_file(&fields.text("name")?, number, &path).await?;
    serve(&app, &file, path.name(), &asked).await
}
