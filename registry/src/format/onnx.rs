//! ONNX: a protobuf message, walked for what is in it and for what it lies about. Field numbers are those of `onnx.proto`
//! (ONNX 1.16).

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value as Json, json};

use super::{
    Fault,
    proto::{Value, deeper, field, pass, varint},
    read::{Cursor, ReadAt},
};

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 4 << 10;
/// Most inputs, or outputs, of a graph that are told of.
const COLUMNS_MAX: usize = 10_000;
/// The format's own versions so far are 1 to 13; a few more may come.
const IR_VERSION_MAX: u64 = 40;

/// What a model says of itself.
#[derive(Debug, Default)]
pub(super) struct Onnx {
    /// Version of the operators it is made of.
    pub opset: u64,
    /// In MLflow's form; `None` where a side has a type that has none.
    pub inputs: Option<Vec<Json>>,
    pub outputs: Option<Vec<Json>>,
}

/// Whether a file begins as an ONNX model does: with the version of its format.
pub(super) const fn begins(head: &[u8]) -> bool {
    // Then comes the producer, its version, domain, model version, documentation, graph or set of operators.
    matches!(head, [0x08, 1..=40, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..])
}

/// Reads what a model says of itself. `beside` are the files in its directory, with their lengths: tensors may lie there.
pub(super) fn read(file: &dyn ReadAt, beside: &BTreeMap<String, u64>) -> Result<Onnx, Fault> {
    let mut walk = Walk { cursor: Cursor::new(file, 0), beside, initializers: HashSet::new() };
    walk.model()
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    beside: &'a BTreeMap<String, u64>,
    /// Names of the tensors of the outermost graph; inputs of such names are no inputs.
    initializers: HashSet<String>,
}

/// A value's name and type in MLflow's form, where it has one.
type Column = (String, Option<Json>);

impl Walk<'_> {
    fn model(&mut self) -> Result<Onnx, Fault> {
        let (mut ir_version, mut opset, mut graph) = (0, 0, None);
        let end = self.cursor.end();
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1, Value::Number(version)) => ir_version = *version,
                (7, Value::Bytes { end, .. }) => {
                    if graph.is_some() {
                        return Err(Fault::bad("holds two graphs"));
                    }
                    graph = Some(self.graph(*end, 1, true)?);
                }
                (8, Value::Bytes { end, .. }) => {
                    let (domain, version) = self.operators(*end)?;
                    if domain.is_empty() || domain == "ai.onnx" {
                        opset = version;
                    }
                }
                (20, Value::Bytes { end, .. }) => self.training(*end)?,
                (25, Value::Bytes { end, .. }) => self.function(*end)?,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        if !(1..=IR_VERSION_MAX).contains(&ir_version) {
            return Err(Fault::bad(format!("has the format version {ir_version}, which is none of ONNX")));
        }
        let (inputs, outputs) = graph.ok_or_else(|| Fault::bad("holds no graph"))?;
        let initializers = std::mem::take(&mut self.initializers);
        let inputs = inputs.into_iter().filter(|(name, _)| !initializers.contains(name));
        let all = |columns: Vec<Column>| columns.into_iter().map(|(_, column)| column).collect();
        Ok(Onnx { opset, inputs: all(inputs.collect()), outputs: all(outputs) })
    }

    fn operators(&mut self, end: u64) -> Result<(String, u64), Fault> {
        let (mut domain, mut version) = (String::new(), 0);
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1, Value::Bytes { length, .. }) => domain = self.cursor.text(*length, NAME_BYTES_MAX)?,
                (2, Value::Number(found)) => version = *found,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        Ok((domain, version))
    }

    fn training(&mut self, end: u64) -> Result<(), Fault> {
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1 | 2, Value::Bytes { end, .. }) => drop(self.graph(*end, 2, false)?),
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        Ok(())
    }

    fn function(&mut self, end: u64) -> Result<(), Fault> {
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (7, Value::Bytes { end, .. }) => self.node(*end, 2)?,
                (11, Value::Bytes { end, .. }) => self.attribute(*end, 2)?,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        Ok(())
    }

    fn graph(&mut self, end: u64, depth: u32, outermost: bool) -> Result<(Vec<Column>, Vec<Column>), Fault> {
        let depth = deeper(depth)?;
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1, Value::Bytes { end, .. }) => self.node(*end, depth)?,
                (5, Value::Bytes { end, .. }) => {
                    let name = self.tensor(*end)?;
                    if outermost {
                        self.initializers.insert(name);
                    }
                }
                (15, Value::Bytes { end, .. }) => self.sparse(*end)?,
                (11, Value::Bytes { end, .. }) if outermost => self.column(*end, &mut inputs)?,
                (12, Value::Bytes { end, .. }) if outermost => self.column(*end, &mut outputs)?,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        Ok((inputs, outputs))
    }

    fn node(&mut self, end: u64, depth: u32) -> Result<(), Fault> {
        let depth = deeper(depth)?;
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (5, Value::Bytes { end, .. }) => self.attribute(*end, depth)?,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        Ok(())
    }

    fn attribute(&mut self, end: u64, depth: u32) -> Result<(), Fault> {
        let depth = deeper(depth)?;
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (5 | 10, Value::Bytes { end, .. }) => drop(self.tensor(*end)?),
                (6 | 11, Value::Bytes { end, .. }) => drop(self.graph(*end, depth, false)?),
                (22 | 23, Value::Bytes { end, .. }) => self.sparse(*end)?,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        Ok(())
    }

    fn sparse(&mut self, end: u64) -> Result<(), Fault> {
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1 | 2, Value::Bytes { end, .. }) => drop(self.tensor(*end)?),
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        Ok(())
    }

    /// Holds a tensor to what it says of its size, and gives its name.
    fn tensor(&mut self, end: u64) -> Result<String, Fault> {
        let mut tensor = Tensor::default();
        let mut place = BTreeMap::new();
        let mut outside = false;
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1, Value::Number(dim)) => tensor.grow(*dim)?,
                (1, Value::Bytes { end, .. }) => {
                    while self.cursor.at() < *end {
                        self.cursor.step()?;
                        let dim = varint(&mut self.cursor)?;
                        tensor.grow(dim)?;
                    }
                }
                (2, Value::Number(kind)) => tensor.kind = *kind,
                (8, Value::Bytes { length, .. }) => tensor.name = self.cursor.text(*length, NAME_BYTES_MAX)?,
                (9, Value::Bytes { length, .. }) => {
                    tensor.raw = Some(*length);
                    self.cursor.skip(*length)?;
                }
                // Numbers one by one, or all in one; texts.
                (4 | 5 | 7 | 10 | 11, Value::Number(_)) => tensor.listed += 1,
                (4 | 5 | 7 | 10 | 11, Value::Bytes { length, .. }) => {
                    tensor.listed += *length;
                    self.cursor.skip(*length)?;
                }
                (6, Value::Bytes { length, .. }) => {
                    tensor.listed += 1;
                    self.cursor.skip(*length)?;
                }
                (13, Value::Bytes { end, .. }) => {
                    let (key, value) = self.entry(*end)?;
                    place.insert(key, value);
                }
                (14, Value::Number(1)) => outside = true,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        if outside || !place.is_empty() {
            tensor.lies_beside(&place, self.beside)?;
        } else {
            tensor.lies_inside()?;
        }
        Ok(tensor.name)
    }

    fn entry(&mut self, end: u64) -> Result<(String, String), Fault> {
        let (mut key, mut text) = (String::new(), String::new());
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1, Value::Bytes { length, .. }) => key = self.cursor.text(*length, NAME_BYTES_MAX)?,
                (2, Value::Bytes { length, .. }) => text = self.cursor.text(*length, NAME_BYTES_MAX)?,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        Ok((key, text))
    }

    /// An input or output: its name, element type and shape.
    fn column(&mut self, end: u64, columns: &mut Vec<Column>) -> Result<(), Fault> {
        if columns.len() == COLUMNS_MAX {
            return Err(Fault::bad(format!("has more than {COLUMNS_MAX} inputs or outputs")));
        }
        let (mut name, mut tensor) = (String::new(), None);
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1, Value::Bytes { length, .. }) => name = self.cursor.text(*length, NAME_BYTES_MAX)?,
                (2, Value::Bytes { end, .. }) => tensor = self.value_type(*end)?,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        let column = tensor.and_then(|(kind, shape)| {
            Some(json!({"type": "tensor", "tensor-spec": {"dtype": numpy(kind)?, "shape": shape}, "name": name}))
        });
        columns.push((name, column));
        Ok(())
    }

    fn value_type(&mut self, end: u64) -> Result<Option<(u64, Vec<i64>)>, Fault> {
        let mut found = None;
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1, Value::Bytes { end, .. }) => found = self.tensor_type(*end)?,
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        Ok(found)
    }

    fn tensor_type(&mut self, end: u64) -> Result<Option<(u64, Vec<i64>)>, Fault> {
        let (mut kind, mut shape) = (0, None);
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            match (number, &value) {
                (1, Value::Number(found)) => kind = *found,
                (2, Value::Bytes { end, .. }) => shape = Some(self.shape(*end)?),
                _ => pass(&mut self.cursor, &value)?,
            }
        }
        // Without a shape it may have any, for which there is no form.
        Ok(shape.map(|shape| (kind, shape)))
    }

    fn shape(&mut self, end: u64) -> Result<Vec<i64>, Fault> {
        let mut shape = Vec::new();
        while let Some((number, value)) = field(&mut self.cursor, end)? {
            let (1, Value::Bytes { end, .. }) = (number, &value) else {
                pass(&mut self.cursor, &value)?;
                continue;
            };
            let mut length = -1;
            while let Some((number, value)) = field(&mut self.cursor, *end)? {
                match (number, &value) {
                    (1, Value::Number(dim)) => length = dim_of(*dim)?,
                    _ => pass(&mut self.cursor, &value)?,
                }
            }
            if shape.len() == 64 {
                return Err(Fault::bad("has an input or output of more than 64 dimensions"));
            }
            shape.push(length);
        }
        Ok(shape)
    }
}

fn dim_of(raw: u64) -> Result<i64, Fault> {
    i64::try_from(raw).map_err(|_| Fault::bad(format!("has a dimension of {}", raw.cast_signed())))
}

/// What a tensor says of itself.
#[derive(Default)]
struct Tensor {
    name: String,
    kind: u64,
    /// Product of the dimensions so far; `None`: none has come.
    elements: Option<u64>,
    /// Length of the elements as bytes.
    raw: Option<u64>,
    /// At least so many bytes, or elements, stand one by one.
    listed: u64,
}

impl Tensor {
    fn grow(&mut self, dim: u64) -> Result<(), Fault> {
        let dim = dim_of(dim)?.unsigned_abs();
        let grown = self.elements.unwrap_or(1).checked_mul(dim);
        self.elements = Some(grown.ok_or_else(|| Fault::bad("has a tensor of more elements than can be counted"))?);
        Ok(())
    }

    /// Bytes of all elements; `None` where its type is not known or has no fixed size.
    fn bytes(&self) -> Option<u64> {
        let elements = self.elements.unwrap_or(1);
        let bytes = match self.kind {
            2 | 3 | 9 | 17..=20 => elements,
            4 | 5 | 10 | 16 => elements.saturating_mul(2),
            1 | 6 | 12 => elements.saturating_mul(4),
            7 | 11 | 13 | 14 => elements.saturating_mul(8),
            15 => elements.saturating_mul(16),
            21..=23 => elements.div_ceil(2),
            _ => return None,
        };
        Some(bytes)
    }

    fn lies_inside(&self) -> Result<(), Fault> {
        let elements = self.elements.unwrap_or(1);
        let fits = match (self.raw, self.bytes()) {
            (Some(raw), Some(bytes)) => raw == bytes,
            (Some(raw), None) => elements <= raw.saturating_mul(2),
            // A number listed takes a byte at least, and may hold two of four bits.
            (None, _) => elements <= self.listed.saturating_mul(2),
        };
        if fits {
            return Ok(());
        }
        let held = self.raw.unwrap_or(self.listed);
        let name = &self.name;
        Err(Fault::bad(format!("has a tensor {name:?} of {elements} elements for which it holds {held} bytes")))
    }

    /// Elements in another file: of the same directory, and long enough.
    fn lies_beside(&self, place: &BTreeMap<String, String>, beside: &BTreeMap<String, u64>) -> Result<(), Fault> {
        let name = &self.name;
        let location = place.get("location").map(String::as_str).unwrap_or_default();
        let plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | ':');
        if matches!(location, "" | "." | "..") || !location.chars().all(plain) {
            let problem = "which is not the name of a file beside it";
            return Err(Fault::bad(format!("has a tensor {name:?} that lies in {location:?}, {problem}")));
        }
        let Some(file) = beside.get(location) else {
            return Err(Fault::bad(format!("has a tensor {name:?} in `{location}`, which is not beside it")));
        };
        let number = |key: &str, otherwise: u64| match place.get(key) {
            None => Ok(otherwise),
            Some(text) => {
                text.parse().map_err(|_| Fault::bad(format!("has a tensor {name:?} whose {key} is {text:?}")))
            }
        };
        let offset = number("offset", 0)?;
        let length = number("length", file.saturating_sub(offset))?;
        let inside = offset.checked_add(length).is_some_and(|end| end <= *file);
        if !inside || self.bytes().is_some_and(|bytes| bytes > length) {
            let elements = self.elements.unwrap_or(1);
            return Err(Fault::bad(format!(
                "has a tensor {name:?} of {elements} elements at byte {offset} of `{location}`, which has {file} bytes"
            )));
        }
        Ok(())
    }
}

/// The element type in numpy's words, which MLflow uses.
const fn numpy(kind: u64) -> Option<&'static str> {
    Some(match kind {
        1 => "float32",
        2 => "uint8",
        3 => "int8",
        4 => "uint16",
        5 => "int16",
        6 => "int32",
        7 => "int64",
        8 => "str",
        9 => "bool",
        10 => "float16",
        11 => "float64",
        12 => "uint32",
        13 => "uint64",
        _ => return None,
    })
}
