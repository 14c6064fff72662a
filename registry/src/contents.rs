//! What is in a version's files: what its `MLmodel` says, and whether any of them carries code.
//!
//! A pickle runs whatever its maker put into it when it is loaded. Files are looked at by name and by their first and
//! last bytes; nothing here, or anywhere in this server, loads one.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::Digest;
use storage::Blobs;

use crate::{
    RegistryError,
    artifact::StoredFile,
    mlmodel::{self, MlModel},
};

/// Largest file whose bytes are looked into.
const LOOKED_INTO_BYTES_MAX: u64 = 64 << 20;
/// Largest `MLmodel` that is read.
pub(crate) const MLMODEL_BYTES_MAX: u64 = 1 << 20;
/// How much of an archive's ends is searched for the names of what is in it.
const ENDS_BYTES: usize = 4 << 20;

/// What runs code as soon as it is loaded.
pub(crate) const PICKLE: &str = "a pickle";
/// Endings of formats that run code when they are loaded, and what they are.
const CODE: &[(&[&str], &str)] = &[
    (&["pkl", "pickle", "cloudpickle", "joblib", "dill", "p", "sav"], "a pickle"),
    (&["pt", "pth", "ckpt", "mar"], "a PyTorch file, which holds a pickle"),
    (&["keras", "h5", "hdf5"], "a Keras file, which may hold code"),
    (
        &["py", "pyc", "pyo", "pyd", "ipynb", "sh", "so", "dll", "dylib", "exe", "jar", "whl", "egg", "rds", "rdata"],
        "code",
    ),
];
/// Endings of formats that hold data only, so that a file too large to look into is trusted.
const DATA: &[&str] =
    &["onnx", "data", "safetensors", "gguf", "parquet", "csv", "json", "yaml", "yml", "txt", "md", "tflite"];

/// What was found in a directory of files.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Contents {
    pub model: MlModel,
    /// Why these files are never loaded by this server, nor should be by anyone who does not trust their maker.
    pub unsafe_reason: Option<String>,
}

/// Where the bytes of files are.
#[derive(Clone, Copy)]
pub(crate) enum Reader<'a> {
    /// In hand, all of them.
    Hand(&'a BTreeMap<Digest, Bytes>),
    Store(&'a dyn Blobs),
}

impl Reader<'_> {
    async fn read(self, digest: &Digest) -> Result<Bytes, RegistryError> {
        match self {
            Self::Hand(all) => Ok(all[digest].clone()),
            Self::Store(blobs) => Ok(blobs.get(digest).await?),
        }
    }
}

/// Looks through the files.
pub(crate) async fn inspect(files: &[StoredFile], from: Reader<'_>) -> Result<Contents, RegistryError> {
    let mut contents = Contents::default();
    let mut reasons = Vec::new();
    for file in files {
        if file.path == mlmodel::FILE {
            let text = if file.bytes > MLMODEL_BYTES_MAX { Bytes::new() } else { from.read(&file.digest).await? };
            match MlModel::read(&text) {
                Some(model) => contents.model = model,
                None => reasons.push("its `MLmodel` cannot be read, so how it is loaded is not known".to_owned()),
            }
            continue;
        }
        let found = match by_name(&file.path) {
            Some(kind) => Some(kind),
            None if file.bytes > LOOKED_INTO_BYTES_MAX => {
                let known = endings(&file.path).last().is_some_and(|ending| DATA.contains(&ending.as_str()));
                (!known).then_some("of no known format and too large to look into")
            }
            None => by_bytes(&from.read(&file.digest).await?),
        };
        // Once is enough to know, but the `MLmodel` is still to come.
        if let (Some(kind), true) = (found, reasons.is_empty()) {
            reasons.push(format!("`{}` is {kind}", file.path));
        }
    }
    let listed = contents.model.input_example.take();
    contents.model.input_example = listed.filter(|path| files.iter().any(|file| file.path == *path));
    contents.unsafe_reason = reasons.into_iter().next().or_else(|| contents.model.unsafe_reason.clone());
    Ok(contents)
}

/// The endings of a file's name: `model.pkl.gz` has `pkl` and `gz`.
fn endings(path: &str) -> Vec<String> {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split('.').skip(1).map(str::to_ascii_lowercase).collect()
}

fn by_name(path: &str) -> Option<&'static str> {
    let endings = endings(path);
    let known = |list: &[&str]| endings.iter().any(|ending| list.contains(&ending.as_str()));
    CODE.iter().find(|(list, _)| known(list)).map(|(_, kind)| *kind)
}

pub(crate) fn by_bytes(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        // The opcode of a protocol, and the protocol.
        [0x80, 2..=5, ..] => Some(PICKLE),
        [b'P', b'K', 3 | 5 | 7, ..] if names(bytes, b".pkl") => Some("an archive that holds a pickle"),
        [b'P', b'K', 3 | 5 | 7, ..] if names(bytes, b".weights.h5") => Some("a Keras file, which may hold code"),
        [0x89, b'H', b'D', b'F', ..] => Some("an HDF5 file, which may hold code"),
        _ if is_old_pickle(bytes) => Some(PICKLE),
        [b'#', b'!', ..] => Some("a script"),
        [0x7f, b'E', b'L', b'F', ..] | [b'M', b'Z', ..] => Some("a program"),
        // An array of Python objects is a pickle behind a header.
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] if contains(&bytes[..bytes.len().min(256)], b"'|O'") => {
            Some("an array that holds a pickle")
        }
        _ => None,
    }
}

/// Protocols 0 and 1 have no mark of their own; those that call something import it by a line each for module and name,
/// and every pickle ends with a full stop.
fn is_old_pickle(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|b| !matches!(b, b'(' | b'd' | b'l' | b't' | b']' | b'}')).unwrap_or_default();
    let (Some(b'c'), Some(b'.')) = (bytes.get(start), bytes.trim_ascii_end().last()) else { return false };
    let word = |line: Option<&[u8]>| {
        line.is_some_and(|line| {
            !line.is_empty() && line.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
        })
    };
    let mut lines = bytes[start + 1..].splitn(3, |b| *b == b'\n');
    word(lines.next()) && word(lines.next())
}

/// Whether an archive has a file of that ending, as far as its ends tell.
fn names(archive: &[u8], ending: &[u8]) -> bool {
    let (head, tail) = (archive.len().min(ENDS_BYTES), archive.len().saturating_sub(ENDS_BYTES));
    [&archive[..head], &archive[tail..]].into_iter().any(|end| contains(end, ending))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pickle_is_known_by_its_name_whatever_it_holds() {
        for path in ["model.pkl", "a/b/python_model.PKL", "model.pkl.gz", "w.joblib", "m.pt", "code/x.py"] {
            assert!(by_name(path).is_some(), "{path}");
        }
        for path in [
            "model.onnx",
            "model.onnx.data",
            "MLmodel",
            "requirements.txt",
            "pkl",
            "input_example.json",
            "a.pkl/x.json",
        ] {
            assert_eq!(by_name(path), None, "{path}");
        }
    }

    #[test]
    fn a_pickle_is_known_by_its_bytes_whatever_it_is_called() {
        for bytes in [
            b"\x80\x02}q\x00.".as_slice(),
            b"\x80\x05\x95",
            b"cposix\nsystem\n(S'id'\ntR.",
            b"(cos\nsystem\nS'id'\no.",
            b"PK\x03\x04....archive/data.pkl....",
            b"PK\x03\x04....model.weights.h5....",
            b"\x89HDF\r\n\x1a\n\0\0",
            b"#!/bin/sh\n",
            b"\x7fELF\x02",
            b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False}",
        ] {
            assert!(by_bytes(bytes).is_some(), "{bytes:?}");
        }
        for bytes in [
            b"".as_slice(),
            b"\x08\x08\x12\x07",
            b"cat\ndog\n",
            b"PK\x03\x04....weights.npy",
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}",
            b"\x80",
            b"\x80\x09",
            b"{\"a\": 1}",
        ] {
            assert_eq!(by_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_file_too_large_to_look_into_is_trusted_only_by_a_format_of_data() {
        let file =
            |path: &str| StoredFile { path: path.into(), digest: Digest::of(b""), bytes: LOOKED_INTO_BYTES_MAX + 1 };
        // Reading any of them would fail.
        let nothing = BTreeMap::new();
        let unread = Reader::Hand(&nothing);
        assert_eq!(inspect(&[file("model.onnx"), file("model.onnx.data")], unread).await.unwrap(), Contents::default());
        let reason = inspect(&[file("weights")], unread).await.unwrap().unsafe_reason.unwrap();
        assert!(reason.contains("too large"), "{reason}");
        let reason = inspect(&[file("MLmodel")], unread).await.unwrap().unsafe_reason.unwrap();
        assert!(reason.contains("cannot be read"), "{reason}");
    }
}
