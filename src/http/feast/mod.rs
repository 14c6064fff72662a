//! Feast's feature server: the routes that its remote online store and its other clients call.

mod answer;
mod materialise;
mod online;
mod write;

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::Raw;
use crate::{
    app::App,
    feast::{Refusal, python},
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(online::get_online_features))
        .routes(routes!(write::write_to_online_store))
        .routes(routes!(write::push))
        .routes(routes!(materialise::materialize))
        .routes(routes!(materialise::materialize_incremental))
}

/// A JSON body as Python writes it.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Raw(body) = Raw::from_request(request, state).await?;
        python::read(&body).map(Self)
    }
}
