//! Rows in the shape of a model: its own columns, in its own order and types.

use domain::{Column, Field, Frame, FrameError, ModelRef, Signature, ValueType, ports::ServiceSchema};

use crate::ServingError;

/// Whether values of type `found` may stand where a model wants `wanted`: the same type, or whole numbers as floats.
fn fits(found: ValueType, wanted: ValueType) -> bool {
    found == wanted || (found == ValueType::Int && wanted == ValueType::Float)
}

/// The rows at `indices` as the model wants them: only its inputs, in their order, integers widened where floats are wanted.
pub(crate) fn shape(signature: &Signature, rows: &Frame, indices: &[usize]) -> Result<Frame, FrameError> {
    let mut shaped = Frame::of_rows(indices.len());
    for Field { name, kind } in &signature.inputs {
        let column = rows.require(name)?;
        if !fits(column.kind(), *kind) {
            return Err(FrameError::WrongType { name: name.clone(), found: column.kind(), expected: *kind });
        }
        let taken = column.take(indices);
        let taken = match taken.to_floats() {
            Some(floats) if *kind == ValueType::Float => Column::Float(floats),
            _ => taken,
        };
        shaped.add(name.clone(), taken)?;
    }
    Ok(shaped)
}

/// One row of nulls: what a model must survive before it may serve.
pub(crate) fn null_row(signature: &Signature) -> Result<Frame, FrameError> {
    let mut row = Frame::of_rows(1);
    for Field { name, kind } in &signature.inputs {
        row.add(name.clone(), nulls(*kind, 1))?;
    }
    Ok(row)
}

fn nulls(kind: ValueType, rows: usize) -> Column {
    match kind {
        ValueType::Bool => Column::Bool(vec![None; rows]),
        ValueType::Int => Column::Int(vec![None; rows]),
        ValueType::Float => Column::Float(vec![None; rows]),
        ValueType::Text => Column::Text(vec![None; rows]),
        ValueType::Timestamp => Column::Timestamp(vec![None; rows]),
        ValueType::List(list) => Column::List(list, vec![None; rows]),
    }
}

/// Stacks frames of the same shape.
///
/// # Panics
/// When two frames differ in their columns; jobs of one lane never do, since `shape` made them.
pub(crate) fn concat<'a>(frames: impl Iterator<Item = &'a Frame>) -> Frame {
    let frames: Vec<_> = frames.collect();
    let rows = frames.iter().map(|frame| frame.rows()).sum();
    let mut whole = Frame::of_rows(rows);
    let Some(first) = frames.first() else { return whole };
    for (at, (name, column)) in first.iter().enumerate() {
        let mut stacked = Column::with_capacity(column.kind(), rows);
        for frame in &frames {
            let (_, part) = frame.iter().nth(at).expect("jobs of a lane have the same columns");
            append(&mut stacked, part);
        }
        whole.add(name.clone(), stacked).expect("jobs of a lane have the same columns");
    }
    whole
}

fn append(to: &mut Column, from: &Column) {
    match (to, from) {
        (Column::Bool(to), Column::Bool(from)) => to.extend_from_slice(from),
        (Column::Int(to), Column::Int(from)) => to.extend_from_slice(from),
        (Column::Float(to), Column::Float(from)) => to.extend_from_slice(from),
        (Column::Text(to), Column::Text(from)) => to.extend_from_slice(from),
        (Column::Timestamp(to), Column::Timestamp(from)) => to.extend_from_slice(from),
        (Column::List(one, to), Column::List(other, from)) if one == other => to.extend_from_slice(from),
        (to, from) => unreachable!("a lane stacked {} on {}", from.kind(), to.kind()),
    }
}

/// Whether the service gives every column the model reads, in a type that fits.
pub(crate) fn check_fit(version: &ModelRef, signature: &Signature, schema: &ServiceSchema) -> Result<(), ServingError> {
    let misfit =
        |problem| ServingError::Misfit { version: version.clone(), service: schema.service.to_string(), problem };
    let given = || schema.keys.iter().chain(schema.request.iter().map(|value| &value.field)).chain(&schema.features);
    for Field { name, kind } in &signature.inputs {
        let Some(field) = given().find(|field| field.name == *name) else {
            let near = domain::error::nearest(name, given().map(|field| &*field.name));
            let near = near.map_or_else(String::new, |near| format!(" (it has `{near}`)"));
            return Err(misfit(format!("it has no column `{name}`{near}")));
        };
        if !fits(field.kind, *kind) {
            let (found, wanted) = (field.kind, kind);
            return Err(misfit(format!("column `{name}` is {found} where the model wants {wanted}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let inputs = vec![Field::new("x", ValueType::Float), Field::new("city", ValueType::Text)];
        Signature { inputs, outputs: vec![] }
    }

    #[test]
    fn a_model_gets_its_own_columns_in_its_own_order_and_types() {
        let rows = Frame::new([
            ("city".into(), Column::Text(vec![Some("a".into()), None, Some("c".into())])),
            ("other".into(), Column::Bool(vec![None; 3])),
            ("x".into(), Column::Int(vec![Some(1), Some(2), None])),
        ])
        .unwrap();
        let shaped = shape(&signature(), &rows, &[2, 0]).unwrap();
        assert_eq!(shaped.names(), ["x".into(), "city".into()]);
        assert_eq!(shaped.column("x"), Some(&Column::Float(vec![None, Some(1.0)])));
        assert_eq!(shaped.column("city"), Some(&Column::Text(vec![Some("c".into()), Some("a".into())])));
        let stacked = concat([&shaped, &null_row(&signature()).unwrap()].into_iter());
        assert_eq!(stacked.column("x"), Some(&Column::Float(vec![None, Some(1.0), None])));
        assert_eq!(stacked.rows(), 3);
    }

    #[test]
    fn a_missing_or_mistyped_column_is_named() {
        let rows = Frame::new([("x".into(), Column::Text(vec![None]))]).unwrap();
        assert!(matches!(shape(&signature(), &rows, &[0]), Err(FrameError::WrongType { .. })));
        assert!(matches!(shape(&signature(), &Frame::of_rows(1), &[0]), Err(FrameError::Missing(_))));
    }
}
