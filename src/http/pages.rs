//! Pages: the console at `/`, the API's documentation at `/docs`. Nothing is fetched from elsewhere.

use axum::{
    Router,
    http::header,
    response::{Html, IntoResponse},
    routing::get,
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::app::App;

pub fn routes(document: utoipa::openapi::OpenApi) -> Router<App> {
    let docs =
        SwaggerUi::new("/docs").url("/openapi.json", document).config(Config::default().try_it_out_enabled(true));
    Router::new()
        .route("/", get(console))
        .route("/console.css", get(style))
        .route("/console.js", get(script))
        .merge(docs)
}

async fn console() -> impl IntoResponse {
    Html(include_str!("../../console/index.html"))
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../../console/console.css"))
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("../../console/console.js"))
}
