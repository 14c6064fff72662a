//! Questions in SQL, answered as JSON. Large answers go over Flight SQL.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::SchemaRef,
    json::{ArrayWriter, writer::WriterBuilder},
};
use axum::{Json, extract::State};
use domain::ErrorCode;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Problem};
use crate::{app::App, catalogue::Tables};

/// Rows of one answer.
const ROWS_MAX: usize = 100_000;
/// Bytes of one answer's rows, in memory.
const BYTES_MAX: usize = 64 << 20;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(query))
}

/// A query.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Query {
    /// One query: `SELECT`, `WITH`, `VALUES`, `EXPLAIN`, `SHOW` or `DESCRIBE`.
    #[schema(example = "SELECT state, count(*) AS runs FROM runs GROUP BY state")]
    sql: String,
    /// A value for each `?` or `$1`, `$2`, ...: bools, numbers, texts or null.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    parameters: Vec<Value>,
    /// Rows of the answer at most; the rest is left out, and the answer says so.
    #[serde(default = "thousand")]
    #[schema(minimum = 1, maximum = 100_000)]
    limit: usize,
}

const fn thousand() -> usize {
    1_000
}

/// What a query found.
#[derive(Serialize, ToSchema)]
struct Found {
    columns: Vec<FoundColumn>,
    /// One object for each row.
    #[schema(value_type = Vec<Object>)]
    rows: Value,
    /// There were more rows than `limit`.
    truncated: bool,
}

/// A column of an answer.
#[derive(Serialize, ToSchema)]
struct FoundColumn {
    name: String,
    /// As Arrow calls it.
    #[serde(rename = "type")]
    #[schema(example = "Int64")]
    kind: String,
}

/// Ask in SQL
///
/// Over sources (`sources.NAME`), plain feature views (`features.NAME`), runs, parameters, metrics, models, versions,
/// predictions, scores and labels; `SHOW TABLES` lists them. Nothing can be written. For large answers, and from Python, JDBC
/// or ODBC, use Flight SQL on the same port.
#[utoipa::path(post, path = "/api/v1/sql", operation_id = "query", tag = "operations", request_body = Query,
    responses((status = 200, description = "Columns and rows", body = Found),
              (status = "4XX", description = "The query cannot be answered", body = Problem)))]
async fn query(State(app): State<App>, Body(asked): Body<Query>) -> Result<Json<Found>, Problem> {
    if !(1..=ROWS_MAX).contains(&asked.limit) {
        return Err(Problem::invalid(format!("limit is {}", asked.limit), format!("ask for 1 to {ROWS_MAX} rows")));
    }
    let values = values(&asked.parameters)?;
    let mut answer = app.sql.ask(Tables::of(&app), &asked.sql, values).await?;
    let schema = answer.schema();
    let (mut batches, mut rows, mut bytes, mut truncated) = (Vec::new(), 0, 0, false);
    while let Some(batch) = answer.next().await {
        let batch = batch?;
        let room = asked.limit - rows;
        truncated = batch.num_rows() > room;
        let kept = batch.slice(0, batch.num_rows().min(room));
        rows += kept.num_rows();
        bytes += batch.get_array_memory_size();
        if bytes > BYTES_MAX {
            let detail = format!("the answer has more than {BYTES_MAX} bytes");
            return Err(Problem::new(ErrorCode::TooLarge, detail, "ask for fewer rows or columns, or use Flight SQL"));
        }
        batches.push(kept);
        if truncated {
            break;
        }
    }
    Ok(Json(Found { columns: columns(&schema), rows: written(&batches)?, truncated }))
}

fn columns(schema: &SchemaRef) -> Vec<FoundColumn> {
    let column = |field: &Arc<arrow::datatypes::Field>| FoundColumn {
        name: field.name().clone(),
        kind: field.data_type().to_string(),
    };
    schema.fields().iter().map(column).collect()
}

/// The rows as an array of objects, nulls written out.
fn written(batches: &[RecordBatch]) -> Result<Value, Problem> {
    let failed = |error: &dyn std::fmt::Display| {
        Problem::new(
            ErrorCode::InvalidArgument,
            format!("the answer has no JSON form: {error}"),
            "cast the column to text",
        )
    };
    let mut out = Vec::new();
    let mut writer: ArrayWriter<_> = WriterBuilder::new().with_explicit_nulls(true).build(&mut out);
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).map_err(|e| failed(&e))?;
    writer.finish().map_err(|e| failed(&e))?;
    drop(writer);
    // Without a batch nothing at all is written.
    if out.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_slice(&out).map_err(|e| failed(&e))
}

/// The values as a row.
fn values(given: &[Value]) -> Result<Option<RecordBatch>, Problem> {
    if given.is_empty() {
        return Ok(None);
    }
    let mut columns: Vec<(String, ArrayRef)> = Vec::with_capacity(given.len());
    for (at, value) in given.iter().enumerate() {
        let column: ArrayRef = match value {
            Value::Null => arrow::array::new_null_array(&arrow::datatypes::DataType::Null, 1),
            Value::Bool(bool) => Arc::new(BooleanArray::from(vec![*bool])),
            Value::String(text) => Arc::new(StringArray::from(vec![text.as_str()])),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(int), _) => Arc::new(Int64Array::from(vec![int])),
                (None, Some(float)) => Arc::new(Float64Array::from(vec![float])),
                (None, None) => return Err(unfit(at, "is a number that fits neither 64-bit integers nor doubles")),
            },
            Value::Array(_) | Value::Object(_) => return Err(unfit(at, "is a list or an object")),
        };
        columns.push((format!("${}", at + 1), column));
    }
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
    batch.map(Some).map_err(|e| Problem::new(ErrorCode::Internal, e.to_string(), ""))
}

fn unfit(at: usize, why: &str) -> Problem {
    Problem::invalid(format!("parameters[{at}] {why}"), "send bools, numbers, texts or null")
}
