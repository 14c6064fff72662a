//! A join straight into a Parquet file, row groups encoded side by side.

use std::{io::Write, ops::Range, sync::Arc};

use arrow::datatypes::DataType;
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves},
    },
    basic::{Compression as Codec, Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::types::ColumnPath,
};

use super::{
    error::JoinError,
    output::{Chunk, Joined},
    threads,
};

/// Rows of a row group.
const GROUP_ROWS: usize = 1 << 17;

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    /// Fast, and the common choice of other tools.
    Snappy,
    /// Smaller.
    Zstd,
}

impl Joined {
    /// Writes all rows and gives their number. After an error the sink holds the beginning of a file without a footer.
    ///
    /// # Errors
    /// What the join or the sink says.
    pub fn write_parquet(mut self, sink: impl Write + Send, compression: Compression) -> Result<u64, JoinError> {
        let schema = self.schema();
        let written = |source| JoinError::Read { place: "the joined rows while writing them".into(), source };
        let codec = match compression {
            Compression::None => Codec::UNCOMPRESSED,
            Compression::Snappy => Codec::SNAPPY,
            Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        };
        let mut properties =
            WriterProperties::builder().set_compression(codec).set_statistics_enabled(EnabledStatistics::Chunk);
        for field in schema.fields() {
            let path = ColumnPath::from(field.name().as_str());
            let data_type = field.data_type();
            // Measured values seldom repeat, nor do instants and most numbers: a dictionary costs more than it saves.
            if data_type.is_integer() || matches!(data_type, DataType::Timestamp(..) | DataType::Date32) {
                properties = properties.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
                properties = properties.set_column_dictionary_enabled(path, false);
            } else if data_type.is_floating() {
                properties = properties.set_column_dictionary_enabled(path, false);
            }
        }
        let descriptor = ArrowSchemaConverter::new().convert(&schema).map_err(written)?;
        let root = descriptor.root_schema_ptr();
        let mut file = SerializedFileWriter::new(sink, root, Arc::new(properties.build())).map_err(written)?;
        let factory = ArrowRowGroupWriterFactory::new(&file, schema);
        let (threads, batch_rows) = (self.options().threads.max(1), self.options().batch_rows.max(1));
        let (mut rows, mut groups) = (0, 0);
        while let Some(chunk) = self.next_chunk()? {
            let ranges: Vec<Range<usize>> =
                (0..chunk.rows).step_by(GROUP_ROWS).map(|from| from..chunk.rows.min(from + GROUP_ROWS)).collect();
            for wave in ranges.chunks(threads) {
                let encoded = threads::map(threads, wave.len(), |at| {
                    encode(&factory, &chunk, groups + at, wave[at].clone(), batch_rows)
                })?;
                groups += wave.len();
                for columns in encoded {
                    let mut group = file.next_row_group().map_err(written)?;
                    for column in columns {
                        column.append_to_row_group(&mut group).map_err(written)?;
                    }
                    group.close().map_err(written)?;
                }
            }
            rows += chunk.rows as u64;
        }
        file.close().map_err(written)?;
        Ok(rows)
    }
}

fn encode(
    factory: &ArrowRowGroupWriterFactory,
    chunk: &Chunk,
    group: usize,
    rows: Range<usize>,
    batch_rows: usize,
) -> Result<Vec<ArrowColumnChunk>, JoinError> {
    let written = |source: ParquetError| JoinError::Read { place: "the joined rows while writing them".into(), source };
    let mut writers = factory.create_column_writers(group).map_err(written)?;
    for from in rows.clone().step_by(batch_rows) {
        let batch = chunk.batch(from..rows.end.min(from + batch_rows))?;
        let mut writers = writers.iter_mut();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, column).map_err(written)? {
                if let Some(writer) = writers.next() {
                    writer.write(&leaf).map_err(written)?;
                }
            }
        }
    }
    writers.into_iter().map(|writer| writer.close().map_err(written)).collect()
}
