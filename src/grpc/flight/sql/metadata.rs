//! What drivers ask about catalogues, schemas, tables and keys.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use arrow_flight::sql::{Command, CommandGetDbSchemas, CommandGetTables};
use domain::ErrorCode;
use sql::{CATALOG, Catalogue};
use tonic::Status;

use super::{info, unknown};
use crate::{
    app::App,
    catalogue::Tables,
    grpc::{refuse, status},
};

/// The one kind of table there is.
const TABLE: &str = "TABLE";

/// What the answer to a question about tables looks like.
///
/// # Errors
/// It is no such question.
pub fn schema(command: &Command) -> Result<SchemaRef, Status> {
    Ok(match command {
        Command::CommandGetCatalogs(asked) => asked.into_builder().schema(),
        Command::CommandGetDbSchemas(asked) => asked.clone().into_builder().schema(),
        Command::CommandGetTables(asked) => asked.clone().into_builder().schema(),
        Command::CommandGetTableTypes(asked) => asked.into_builder().schema(),
        Command::CommandGetSqlInfo(_) => info::server()?.schema(),
        Command::CommandGetXdbcTypeInfo(_) => info::types()?.schema(),
        Command::CommandGetPrimaryKeys(_) => primary_keys(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => foreign_keys(),
        other => return Err(unknown(other.type_url())),
    })
}

/// The answer to a question about tables.
///
/// # Errors
/// It is no such question, or a table does not open.
pub async fn answer(app: &App, command: Command) -> Result<RecordBatch, Status> {
    let catalogue = Tables::of(app);
    match command {
        Command::CommandGetCatalogs(asked) => {
            let mut all = asked.into_builder();
            all.append(CATALOG);
            all.build().map_err(unbuilt)
        }
        Command::CommandGetDbSchemas(asked) => schemas(&*catalogue, asked),
        Command::CommandGetTables(asked) => tables(&*catalogue, asked).await,
        Command::CommandGetTableTypes(asked) => {
            let mut all = asked.into_builder();
            all.append(TABLE);
            all.build().map_err(unbuilt)
        }
        Command::CommandGetSqlInfo(asked) => asked.into_builder(&info::server()?).build().map_err(unbuilt),
        Command::CommandGetXdbcTypeInfo(asked) => asked.into_builder(&info::types()?).build().map_err(unbuilt),
        // Tables here have no keys that the engine would keep.
        other => Ok(RecordBatch::new_empty(schema(&other)?)),
    }
}

fn schemas(catalogue: &dyn Catalogue, asked: CommandGetDbSchemas) -> Result<RecordBatch, Status> {
    let mut all = asked.into_builder();
    catalogue.schemas().iter().for_each(|schema| all.append(CATALOG, schema));
    all.build().map_err(unbuilt)
}

async fn tables(catalogue: &dyn Catalogue, asked: CommandGetTables) -> Result<RecordBatch, Status> {
    let mut all = asked.into_builder();
    for schema in catalogue.schemas() {
        for table in catalogue.tables(&schema) {
            // A table is only opened where its columns are asked for.
            let columns = if all.include_schema() {
                let opened = catalogue.open(&schema, &table).await.map_err(sql::SqlError::from).map_err(refuse)?;
                // Gone since it was listed.
                let Some(rows) = opened else { continue };
                rows.schema()
            } else {
                Arc::new(Schema::empty())
            };
            all.append(CATALOG, &schema, &table, TABLE, &columns).map_err(unbuilt)?;
        }
    }
    all.build().map_err(unbuilt)
}

/// `CommandGetPrimaryKeys` of the protocol.
fn primary_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// `CommandGetExportedKeys`, `CommandGetImportedKeys` and `CommandGetCrossReference` of the protocol.
fn foreign_keys() -> SchemaRef {
    let mut fields = Vec::with_capacity(13);
    for side in ["pk", "fk"] {
        fields.extend([
            text(format!("{side}_catalog_name"), true),
            text(format!("{side}_db_schema_name"), true),
            text(format!("{side}_table_name"), false),
            text(format!("{side}_column_name"), false),
        ]);
    }
    fields.extend([
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]);
    Arc::new(Schema::new(fields))
}

fn text(name: impl Into<String>, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

pub(super) fn unbuilt(error: impl std::fmt::Display) -> Status {
    status(ErrorCode::Internal, format!("could not write the answer: {error}"))
}
