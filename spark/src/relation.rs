//! What a view of a session is made of.

use arrow::{array::RecordBatch, error::ArrowError, ipc::writer::StreamWriter};

use crate::protocol as wire;

/// Rows that a server can be asked about.
#[derive(Debug, Clone)]
pub enum Relation {
    /// Parquet files that the server reads itself, under a schema written as Spark's DDL; a column that a file lacks is null.
    Parquet { paths: Vec<String>, schema: String },
    /// Rows that are sent along. One message holds them all, so they should be few megabytes.
    Rows(RecordBatch),
    /// A query over the session's views.
    Sql(String),
}

impl Relation {
    pub(crate) fn into_wire(self) -> Result<wire::Relation, ArrowError> {
        use wire::relation::RelType;
        let kind = match self {
            Self::Sql(query) => RelType::Sql(wire::Sql { query }),
            Self::Rows(batch) => {
                let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
                writer.write(&batch)?;
                RelType::LocalRelation(wire::LocalRelation { data: Some(writer.into_inner()?), schema: None })
            }
            Self::Parquet { paths, schema } => {
                let source = wire::read::DataSource {
                    format: Some("parquet".into()),
                    schema: Some(schema),
                    options: Default::default(),
                    paths,
                };
                RelType::Read(wire::Read { read_type: Some(wire::read::ReadType::DataSource(source)) })
            }
        };
        Ok(wire::Relation { rel_type: Some(kind) })
    }
}
