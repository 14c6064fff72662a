//! Values that come beside the text of a question.

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{ParamValues, ScalarValue},
    logical_expr::LogicalPlan,
    sql::sqlparser::{
        dialect::GenericDialect,
        tokenizer::{Token, Tokenizer},
    },
};

use crate::SqlError;

/// The text with `$1`, `$2`, ... for each `?` that is a place for a value.
///
/// # Errors
/// Places of both kinds in one text.
pub(crate) fn number_places(sql: &str) -> Result<String, SqlError> {
    if !sql.contains('?') {
        return Ok(sql.to_owned());
    }
    // What cannot be cut into tokens is no SQL: the parser says so better.
    let Ok(mut tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(sql.to_owned()) };
    let (mut places, mut named) = (0_usize, false);
    for token in &mut tokens {
        match token {
            Token::Placeholder(name) if name == "?" => {
                places += 1;
                *name = format!("${places}");
            }
            Token::Placeholder(_) => named = true,
            _ => {}
        }
    }
    match (places, named) {
        (0, _) => Ok(sql.to_owned()),
        (_, true) => Err(SqlError::Parameters("the text has places of two kinds, ? and $1".into())),
        (_, false) => Ok(tokens.iter().map(ToString::to_string).collect()),
    }
}

/// The places of a plan in order, with the types that they seem to want; text where nothing is known.
///
/// # Errors
/// Named places, or numbers with gaps.
pub(crate) fn places(plan: &LogicalPlan) -> Result<SchemaRef, SqlError> {
    let found = plan.get_parameter_types().map_err(|e| SqlError::Parameters(e.to_string()))?;
    let mut fields = Vec::with_capacity(found.len());
    for number in 1..=found.len() {
        let name = format!("${number}");
        let kind = found.get(&name).ok_or_else(|| {
            let mut names: Vec<&str> = found.keys().map(String::as_str).collect();
            names.sort_unstable();
            SqlError::Parameters(format!("places are numbered from $1 without gaps, found {}", names.join(", ")))
        })?;
        fields.push(Field::new(name, kind.clone().unwrap_or(DataType::Utf8), true));
    }
    Ok(Schema::new(fields).into())
}

/// The plan's values from a table of one row, a column for each place.
///
/// # Errors
/// Another number of rows or columns.
pub(crate) fn values(given: Option<&RecordBatch>, wanted: usize) -> Result<Option<ParamValues>, SqlError> {
    let given = match given {
        Some(given) if given.num_columns() > 0 => given,
        _ if wanted == 0 => return Ok(None),
        _ => return Err(SqlError::Parameters(format!("the text has {wanted} places, and no values came"))),
    };
    if given.num_columns() != wanted || given.num_rows() != 1 {
        return Err(SqlError::Parameters(format!(
            "the text has {wanted} places, and {} values in {} rows came",
            given.num_columns(),
            given.num_rows()
        )));
    }
    let values: Result<Vec<ScalarValue>, _> =
        given.columns().iter().map(|column| ScalarValue::try_from_array(column, 0)).collect();
    values.map(|values| Some(values.into())).map_err(|e| SqlError::Parameters(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_marks_are_numbered_where_they_are_places() {
        let numbered = |sql| number_places(sql).unwrap();
        assert_eq!(numbered("select ? where a = ? and b = '?'"), "select $1 where a = $2 and b = '?'");
        assert_eq!(numbered("select '?' -- why?"), "select '?' -- why?");
        assert_eq!(numbered("select $1"), "select $1");
        assert!(number_places("select ?, $1").unwrap_err().to_string().contains("two kinds"));
    }
}
