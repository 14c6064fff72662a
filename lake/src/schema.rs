//! Columns of rows as columns of a table, which only grows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake_core::kernel::{
    StructType,
    engine::arrow_conversion::{TryIntoArrow as _, TryIntoKernel as _},
};
use storage::StorageError;

use crate::{EVENT_DATE, failure};

/// The columns of rows, and the day, as the table has them; all may be null.
pub(crate) fn with_day(rows: &Schema) -> Schema {
    let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
    let mut fields: Vec<Field> = rows.fields().iter().map(nullable).collect();
    fields.push(Field::new(EVENT_DATE, DataType::Date32, true));
    Schema::new(fields)
}

pub(crate) fn to_delta(schema: &Schema) -> Result<StructType, StorageError> {
    schema.try_into_kernel().map_err(|e: arrow::error::ArrowError| failure::damaged("a table's columns", e))
}

/// The table's columns without the day.
pub(crate) fn of_rows(table: &StructType) -> Result<SchemaRef, StorageError> {
    let all: Schema =
        table.try_into_arrow().map_err(|e: arrow::error::ArrowError| failure::damaged("a table's columns", e))?;
    let rows = all.fields().iter().filter(|field| field.name() != EVENT_DATE).cloned();
    Ok(Arc::new(Schema::new(rows.collect::<Vec<_>>())))
}

/// The table's columns with those of new rows behind them; `None` when it has them all.
///
/// [`StorageError::SchemaMismatch`] when one changes its type.
pub(crate) fn merged(table: &str, has: &Schema, rows: &Schema) -> Result<Option<Schema>, StorageError> {
    let mut fields: Vec<Arc<Field>> = has.fields().to_vec();
    // As the table would have them: Delta Lake names the elements of lists itself and knows no fixed length.
    for field in of_rows(&to_delta(rows)?)?.fields() {
        match has.field_with_name(field.name()) {
            Ok(known) if known.data_type() == field.data_type() => {}
            Ok(known) => {
                let (name, has, asked) = (field.name(), known.data_type(), field.data_type());
                let detail = format!("column `{name}` is {has} and rows bring {asked}");
                return Err(StorageError::SchemaMismatch { table: table.to_owned(), detail });
            }
            Err(_) => fields.push(field.clone()),
        }
    }
    Ok((fields.len() > has.fields().len()).then(|| Schema::new(fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_column_that_was_made_of_it_whatever_its_length() {
        let item = || Arc::new(Field::new("item", DataType::Float64, true));
        for kind in [DataType::List(item()), DataType::FixedSizeList(item(), 3)] {
            let rows = Schema::new(vec![Field::new("embedding", kind, true)]);
            let table = of_rows(&to_delta(&with_day(&rows)).unwrap()).unwrap();
            assert_eq!(merged("t", &table, &rows).unwrap(), None);
            let other = Schema::new(vec![Field::new("embedding", DataType::Utf8, true)]);
            assert!(merged("t", &table, &other).unwrap_err().to_string().contains("embedding"));
        }
    }
}
