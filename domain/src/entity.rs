//! Kinds of things that features describe, and the columns by which they are found.

use serde::{Deserialize, Serialize};

use crate::{ColumnName, EntityName, ValueType};

/// A kind of thing that features describe, found by one key column (`key`) or by several together (`keys`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    pub name: EntityName,
    /// Column that holds the key, in spines, requests and sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ColumnName>,
    /// Type of `key`.
    #[serde(rename = "type", default = "text")]
    pub kind: ValueType,
    /// Columns that only together hold the key; beside them neither `key` nor `type`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyColumn>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// One of several key columns: its name alone for a text, else `{name, type}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KeyColumn {
    Text(ColumnName),
    Typed(TypedKey),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypedKey {
    pub name: ColumnName,
    #[serde(rename = "type", default = "text")]
    pub kind: ValueType,
}

impl Entity {
    /// The key columns with their types, in the order written.
    pub fn columns(&self) -> impl Iterator<Item = (&ColumnName, ValueType)> {
        let one = self.key.iter().map(|key| (key, self.kind));
        one.chain(self.keys.iter().map(|key| match key {
            KeyColumn::Text(name) => (name, ValueType::Text),
            KeyColumn::Typed(TypedKey { name, kind }) => (name, *kind),
        }))
    }
}

const fn text() -> ValueType {
    ValueType::Text
}
