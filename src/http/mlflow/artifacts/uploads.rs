//! Uploads in parts: the client cuts a large file and sends the parts side by side.

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use domain::{ErrorCode, UploadId};
use registry::ArtifactPath;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{Incoming, Target};
use crate::{
    app::App,
    http::{
        Scheme,
        mlflow::wire::{Answer, Fields, Refusal, done},
    },
};

/// Where the file goes: the URL names the directory, and `path` is the file as the client's own machine knows it.
fn destination(target: Target, fields: &Fields) -> Result<ArtifactPath, Refusal> {
    let local = fields.text("path")?;
    let name = local.rsplit(['/', '\\']).next().unwrap_or(&local);
    Ok(target.0?.join(name)?)
}

fn upload_id(fields: &Fields) -> Result<UploadId, Refusal> {
    read_id(&fields.text("upload_id")?)
}

/// What is no id is no upload's either.
fn read_id(text: &str) -> Result<UploadId, Refusal> {
    text.parse().map_err(|_| Refusal::new(ErrorCode::NotFound, format!("upload {text:?} does not exist")))
}

/// This server as the client reached it.
pub struct Here(Result<String, Refusal>);

impl<S: Send + Sync> FromRequestParts<S> for Here {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        // HTTP/2 has it in the address.
        let host = parts.uri.authority().map(|authority| authority.as_str()).or_else(|| text("host"));
        let lawful = |host: &&str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
            !host.is_empty() && host.bytes().all(plain)
        };
        // A proxy that speaks TLS says so.
        let own = parts.extensions.get::<Scheme>().map_or("http", |Scheme(own)| own);
        let scheme = text("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or(own);
        let host = host.filter(lawful).map(|host| format!("{scheme}://{host}"));
        Ok(Self(host.ok_or_else(|| Refusal::invalid("the Host header does not name this server"))))
    }
}

/// What the client has to send with each part, since it sends parts without its credentials: those of this call.
fn passed_on(headers: &HeaderMap) -> Map<String, Value> {
    let names = ["authorization", "x-millpond-project", "x-mlflow-workspace"];
    let sent = names.into_iter().filter_map(|name| Some((name.to_owned(), headers.get(name)?.to_str().ok()?.into())));
    sent.collect()
}

pub async fn create(State(app): State<App>, target: Target, here: Here, headers: HeaderMap, fields: Fields) -> Answer {
    let (path, here, headers) = (destination(target, &fields)?, here.0?, passed_on(&headers));
    let parts = fields.int_opt("num_parts")?.unwrap_or(1);
    let upload = app.registry.create_upload(&path, parts).await?;
    let credential = |number| {
        let url = format!("{here}/api/2.0/mlflow-artifacts/mpu/part/{upload}/{number}");
        json!({"url": url, "part_number": number, "headers": headers})
    };
    Ok(json!({"upload_id": upload.to_string(), "credentials": (1..=parts).map(credential).collect::<Vec<_>>()}).into())
}

pub async fn part(
    State(app): State<App>,
    Path((upload, number)): Path<(String, String)>,
    mut body: Incoming,
) -> Result<Response, Refusal> {
    let stored = async {
        let (upload, expected) = (read_id(&upload)?, body.expected()?);
        let number = number.parse::<u32>().map_err(|_| Refusal::invalid(format!("part {number:?} is not a number")))?;
        app.registry.put_part(upload, number, body.pieces(), expected).await
    };
    let stored = stored.await;
    let digest = body.settle(stored).await?;
    Ok((StatusCode::OK, [(header::ETAG, format!("\"{digest}\""))]).into_response())
}

pub async fn complete(State(app): State<App>, target: Target, fields: Fields) -> Answer {
    let (path, upload) = (destination(target, &fields)?, upload_id(&fields)?);
    let read = |part: Fields| {
        let number = part.int("part_number")?;
        let number = u32::try_from(number).map_err(|_| Refusal::invalid(format!("part {number} is out of bounds")))?;
        Ok((number, part.text("etag")?))
    };
    let parts: Vec<_> = fields.objects("parts")?.into_iter().map(read).collect::<Result<_, Refusal>>()?;
    // A client that gives up waiting asks again, and then finds the work done.
    let (tell, told) = oneshot::channel();
    let registry = app.registry.clone();
    app.house.spawn("complete an upload", move |stop| async move {
        let completing = registry.complete_upload(upload, &path, &parts);
        if let Some(completed) = stop.run_until_cancelled(completing).await {
            // Nobody may be waiting any more.
            let _ = tell.send(completed);
        }
    });
    told.await.map_err(|_| Refusal::new(ErrorCode::Unavailable, "the server stops: complete the upload again"))??;
    done()
}

pub async fn abort(State(app): State<App>, target: Target, fields: Fields) -> Answer {
    let path = destination(target, &fields)?;
    match upload_id(&fields) {
        Ok(upload) => app.registry.abort_upload(upload, &path).await?,
        Err(refusal) if refusal.status == 404 => {}
        Err(refusal) => return Err(refusal),
    }
    done()
}
