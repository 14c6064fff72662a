//! Words of SQL that Apache Spark, in ANSI mode and out of it, and Sail understand alike.

use domain::{ListType, ValueType};

/// A name in backticks, whatever is in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The type in Spark's DDL.
pub(crate) fn kind(kind: ValueType) -> String {
    match kind {
        ValueType::Bool => "BOOLEAN".into(),
        ValueType::Int => "BIGINT".into(),
        ValueType::Float => "DOUBLE".into(),
        ValueType::Text => "STRING".into(),
        ValueType::Timestamp => "TIMESTAMP".into(),
        ValueType::List(ListType { element, .. }) => format!("ARRAY<{}>", self::kind(element.kind())),
    }
}

/// `k0, k1`, each behind `prefix`.
pub(crate) fn keys(count: usize) -> String {
    (0..count).map(|at| format!("k{at}")).collect::<Vec<_>>().join(", ")
}

/// That no key is null.
pub(crate) fn keyed(count: usize) -> String {
    let each = (0..count).map(|at| format!("k{at} IS NOT NULL"));
    std::iter::once("TRUE".to_owned()).chain(each).collect::<Vec<_>>().join(" AND ")
}

/// The window over all rows of a key so far.
pub(crate) fn so_far(keys: &str, order: &str) -> String {
    let partition = if keys.is_empty() { String::new() } else { format!("PARTITION BY {keys} ") };
    format!("({partition}ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_quotes() {
        assert_eq!(quoted("a` FROM x; --"), "`a`` FROM x; --`");
    }

    #[test]
    fn a_list_is_an_array_of_its_elements() {
        let list: ValueType = serde_json::from_value(serde_json::json!("float[3]")).unwrap();
        assert_eq!(kind(list), "ARRAY<DOUBLE>");
    }
}
