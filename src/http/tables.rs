//! Offline tables of sources: where they lie, and their upkeep.

use axum::{Json, extract::State};
use domain::{SourceName, Span};
use feature_store::{Compaction, TableInfo, Vacuum};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(table)).routes(routes!(compact)).routes(routes!(vacuum))
}

/// Look at the offline table of a source
///
/// A Delta Lake table that DuckDB, Polars and Spark read as it is, at `location`. Its newest rows may still be in the
/// log only (`unsealed_rows`).
#[utoipa::path(get, path = "/api/v1/sources/{source}/table", operation_id = "getTable", tag = "features",
    params(("source" = String, Path, description = "Name of the source")),
    responses((status = 200, description = "Location, version, rows, files and bytes", body = Object),
              (status = "4XX", description = "No such source", body = Problem)))]
async fn table(State(app): State<App>, Path(source): Path<SourceName>) -> Result<Json<TableInfo>, Problem> {
    Ok(Json(app.features.table(&source).await?))
}

/// Compact the offline table of a source
///
/// Seals the newest rows, joins the small files of each day and drops rows that later rows replaced. Readers see the
/// table before or after; earlier versions stay until a vacuum.
#[utoipa::path(post, path = "/api/v1/sources/{source}/compact", operation_id = "compactTable", tag = "features",
    params(("source" = String, Path, description = "Name of the source")),
    responses((status = 200, description = "Rows sealed and dropped, files and bytes before and after", body = Object),
              (status = "4XX", description = "No such source", body = Problem)))]
async fn compact(State(app): State<App>, Path(source): Path<SourceName>) -> Result<Json<Compaction>, Problem> {
    Ok(Json(app.features.compact(&source, &storage::caller_or("rest")).await?))
}

/// For how long earlier versions stay readable.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VacuumRequest {
    /// At most 60d.
    #[serde(default = "month")]
    #[schema(value_type = String, example = "30d")]
    keep: Span,
}

fn month() -> Span {
    Span::from_micros(30 * Span::DAY.micros())
}

/// Vacuum the offline table of a source
///
/// Removes files that went from the table longer than `keep` ago. Training sets of that time cannot be built again
/// afterwards.
#[utoipa::path(post, path = "/api/v1/sources/{source}/vacuum", operation_id = "vacuumTable", tag = "features",
    params(("source" = String, Path, description = "Name of the source")), request_body = VacuumRequest,
    responses((status = 200, description = "Files and bytes removed", body = Object),
              (status = "4XX", description = "No such source, or a time that is too long", body = Problem)))]
async fn vacuum(
    State(app): State<App>,
    Path(source): Path<SourceName>,
    Body(request): Body<VacuumRequest>,
) -> Result<Json<Vacuum>, Problem> {
    Ok(Json(app.features.vacuum(&source, request.keep, &storage::caller_or("rest")).await?))
}
