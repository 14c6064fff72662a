//! From an entry of a stream to a row.

use domain::definition::StreamInput;
use serde_json::{Map, Value as Json};
use storage::Entry;

use crate::parse::{Form, Raw};

/// Reads an entry; `None`: it was deleted from the stream, and nothing is left of it.
pub(super) fn read(input: &StreamInput, entry: &Entry) -> Option<Raw> {
    let fields = entry.fields.as_ref()?;
    let mut raw = match &input.payload {
        Some(payload) => match fields.iter().find(|(name, _)| name == payload.as_bytes()) {
            None => Raw::Malformed(shown(fields), format!("the entry has no field `{payload}`")),
            Some((_, value)) => match std::str::from_utf8(value) {
                Ok(text) => Raw::json(text),
                Err(_) => Raw::Malformed(shown(fields), format!("field `{payload}` is not UTF-8 text")),
            },
        },
        None => columns(fields),
    };
    if let (Some(column), Raw::Row(row, _)) = (&input.entry_id, &mut raw) {
        row.entry(column.as_str()).or_insert_with(|| entry.id.as_str().into());
    }
    Some(raw)
}

/// The entry's fields as cells.
fn columns(fields: &[(Vec<u8>, Vec<u8>)]) -> Raw {
    let mut row = Map::new();
    for (name, value) in fields {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return Raw::Malformed(shown(fields), "a field is not UTF-8 text".into());
        };
        if row.insert(name.to_owned(), value.into()).is_some() {
            return Raw::Malformed(shown(fields), format!("field `{name}` stands twice"));
        }
    }
    Raw::Row(row, Form::Cells)
}

/// What can be read of an entry.
fn shown(fields: &[(Vec<u8>, Vec<u8>)]) -> Json {
    let lossy = |bytes: &[u8]| Json::from(String::from_utf8_lossy(bytes));
    Json::Array(fields.iter().map(|(name, value)| Json::Array(vec![lossy(name), lossy(value)])).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn input(payload: Option<&str>) -> StreamInput {
        let entry_id = Some("entry".parse().unwrap());
        let payload = payload.map(str::to_owned);
        StreamInput { redis: "main".into(), key: "k".into(), group: "g".into(), payload, entry_id }
    }

    fn entry(fields: &[(&[u8], &[u8])]) -> Entry {
        Entry { id: "7-1".into(), fields: Some(fields.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect()) }
    }

    #[test]
    fn a_payload_is_a_json_object_and_gets_the_entrys_id() {
        let read = |bytes: &[u8]| read(&input(Some("data")), &entry(&[(b"other", b"x"), (b"data", bytes)])).unwrap();
        assert!(
            matches!(read(b"{\"a\": 1}"), Raw::Row(row, Form::Json) if row == *json!({"a": 1, "entry": "7-1"}).as_object().unwrap())
        );
        assert!(matches!(read(b"{\"entry\": \"own\"}"), Raw::Row(row, _) if row["entry"] == "own"));
        assert!(matches!(read(b"[1]"), Raw::Malformed(raw, why) if raw == "[1]" && why == "expected a JSON object"));
        assert!(matches!(read(b"\xff"), Raw::Malformed(_, why) if why == "field `data` is not UTF-8 text"));
        let none = super::read(&input(Some("data")), &entry(&[(b"dada", b"{}")])).unwrap();
        assert!(matches!(none, Raw::Malformed(_, why) if why == "the entry has no field `data`"));
    }

    #[test]
    fn without_a_payload_fields_are_cells() {
        let read = |fields: &[(&[u8], &[u8])]| read(&input(None), &entry(fields)).unwrap();
        assert!(
            matches!(read(&[(b"a", b"1")]), Raw::Row(row, Form::Cells) if row["a"] == "1" && row["entry"] == "7-1")
        );
        assert!(
            matches!(read(&[(b"a", b"1"), (b"a", b"2")]), Raw::Malformed(_, why) if why == "field `a` stands twice")
        );
        assert!(matches!(read(&[(b"a", b"\xff")]), Raw::Malformed(_, why) if why == "a field is not UTF-8 text"));
        assert!(super::read(&input(None), &Entry { id: "1-1".into(), fields: None }).is_none());
    }
}
