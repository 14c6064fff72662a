use axum::Router;

use crate::app::App;

/// Under `/api/2.0/mlflow`.
pub fn routes() -> Router<App> {
    Router::new()
}

/// Under `/api/2.0/mlflow-artifacts`.
pub fn proxy_routes() -> Router<App> {
    Router::new()
}

/// What the web pages download from.
pub fn page_routes() -> Router<App> {
    Router::new()
}
