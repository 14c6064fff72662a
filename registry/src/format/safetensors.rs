//! safetensors: eight bytes of length, a JSON header, then the tensors end to end. <https://github.com/huggingface/safetensors>

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::{
    Fault,
    read::{Cursor, ReadAt},
};

/// Longest header that is read. The format allows 100 MB; headers of models with hundreds of layers have a few.
const HEADER_BYTES_MAX: u64 = 16 << 20;
const LENGTH_BYTES: u64 = 8;

/// Whether a file begins with a length and a JSON object.
pub(super) fn begins(head: &[u8]) -> bool {
    head.get(8..10) == Some(b"{\"".as_slice())
}

/// Holds a file to what its header says. Gives the number of tensors.
pub(super) fn read(file: &dyn ReadAt) -> Result<usize, Fault> {
    let mut cursor = Cursor::new(file, 0);
    let header = u64::from_le_bytes(cursor.array()?);
    if header > cursor.left() {
        return Err(Fault::bad(format!("says that its header has {header} bytes, and {} follow", cursor.left())));
    }
    if header > HEADER_BYTES_MAX {
        return Err(Fault::bad(format!("has a header of {header} bytes where at most {HEADER_BYTES_MAX} are read")));
    }
    let data = cursor.left() - header;
    let mut text = vec![0; usize::try_from(header).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut text, LENGTH_BYTES)?;
    let text = std::str::from_utf8(&text).map_err(|_| Fault::bad("has a header that is not UTF-8"))?;
    let header: Header = serde_json::from_str(text).map_err(|e| Fault::bad(format!("has a wrong header: {e}")))?;
    laid_end_to_end(header.0, data)
}

fn laid_end_to_end(mut tensors: Vec<(String, Tensor)>, data: u64) -> Result<usize, Fault> {
    tensors.sort_unstable_by_key(|(_, tensor)| tensor.data_offsets);
    let mut at = 0;
    for (name, tensor) in &tensors {
        let [from, to] = tensor.data_offsets;
        let shown: String = name.chars().take(80).collect();
        if from > to || to > data {
            return Err(Fault::bad(format!("has a tensor {shown:?} at bytes {from} to {to} of {data}")));
        }
        if from != at {
            let how = if from < at { "overlaps another" } else { "leaves a gap before it" };
            return Err(Fault::bad(format!("has a tensor {shown:?} at byte {from} that {how}, which ends at {at}")));
        }
        let bits = bits(&tensor.dtype)
            .ok_or_else(|| Fault::bad(format!("has a tensor {shown:?} of unknown type {:?}", tensor.dtype)))?;
        let elements = tensor.shape.iter().try_fold(1_u64, |all, dim| all.checked_mul(*dim));
        let bytes = elements.and_then(|all| all.checked_mul(bits)).filter(|all| all % 8 == 0).map(|all| all / 8);
        if bytes != Some(to - from) {
            let problem = format!("of shape {:?} in {} bytes", &tensor.shape[..tensor.shape.len().min(8)], to - from);
            return Err(Fault::bad(format!("has a tensor {shown:?} {problem}")));
        }
        at = to;
    }
    if at != data {
        return Err(Fault::bad(format!("has {} bytes that belong to no tensor", data - at)));
    }
    Ok(tensors.len())
}

fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        _ => return None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Tensors by name, each once.
struct Header(Vec<(String, Tensor)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut tensors, mut seen) = (Vec::new(), BTreeSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        let shown: String = name.chars().take(80).collect();
                        return Err(A::Error::custom(format!("{shown:?} stands in it twice")));
                    }
                    if name == "__metadata__" {
                        map.next_value::<BTreeMap<String, String>>()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Read)
    }
}
