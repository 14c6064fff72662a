//! What is recognised, what is found out, and that nothing makes a reader panic or read without end.

mod build;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::{Format, FormatError, ReadAt, Recognised, recognise};
use build::{bytes, column, model, node, number, safetensors, tensor, tensor_beside, zip};

fn look(files: &[(&str, Vec<u8>)]) -> Result<Recognised, FormatError> {
    let boxed = |bytes: &Vec<u8>| Box::new(bytes.clone()) as Box<dyn ReadAt>;
    recognise(&files.iter().map(|(path, bytes)| ((*path).to_owned(), boxed(bytes))).collect())
}

#[track_caller]
fn refused(files: &[(&str, Vec<u8>)], word: &str) {
    let error = look(files).expect_err(word).to_string();
    assert!(error.contains(word), "{word}: {error}");
    assert!(error.len() < 1_000, "{word}: {error}");
}

/// One whole file of each format.
fn whole() -> Vec<(Format, Vec<u8>)> {
    vec![
        (Format::Onnx, build::onnx()),
        (Format::Safetensors, build::weights()),
        (Format::XgboostJson, build::xgboost_json()),
        (Format::XgboostUbjson, build::xgboost_ubjson()),
        (Format::LightGbm, build::lightgbm()),
        (Format::TorchScript, build::torchscript()),
        (Format::Keras, zip(&[("metadata.json", 1), ("config.json", 1), ("model.weights.h5", 1)])),
        (Format::Keras, b"\x89HDF\r\n\x1a\n....".to_vec()),
        (Format::Pickle, zip(&[("archive/data.pkl", 1), ("archive/data/0", 1)])),
        (Format::Pickle, b"\x80\x04\x95\x0c\0\0\0\0\0\0\0\x8c\x08builtins.".to_vec()),
        (Format::Pickle, b"cposix\nsystem\n(S'id'\ntR.".to_vec()),
    ]
}

#[test]
fn each_format_is_known_by_what_is_in_it_whatever_it_is_called() {
    for (format, bytes) in whole() {
        for name in ["model", "a.txt", "weights.onnx", "x.pkl"] {
            assert_eq!(look(&[(name, bytes.clone())]).unwrap().format, format, "{name}");
        }
    }
    let mlmodel = b"flavors:\n  onnx: {data: model.onnx}\n".to_vec();
    let found = look(&[("MLmodel", mlmodel), ("model.onnx", b"whatever".to_vec())]).unwrap();
    assert_eq!((found.format, found.flavors.len()), (Format::MlflowDirectory, 0));
}

#[test]
fn what_a_model_takes_and_gives_is_read_where_it_says_so() {
    let tensor =
        |name, shape| json!({"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": shape}, "name": name});
    let onnx = look(&[("m", build::onnx())]).unwrap();
    assert_eq!(onnx.inputs, Some(vec![tensor("x", [-1, 3])]), "an initializer is no input");
    assert_eq!(onnx.outputs, Some(vec![tensor("y", [-1, 1])]));
    assert_eq!((&onnx.flavors["onnx"]["opset"], &onnx.flavors["onnx"]["data"]), (&json!(21), &json!("m")));
    assert_eq!(onnx.flavors["python_function"]["loader_module"], "mlflow.onnx");
    let number = |name| json!({"type": "double", "name": name, "required": true});
    for bytes in [build::xgboost_json(), build::xgboost_ubjson(), build::lightgbm()] {
        let found = look(&[("m", bytes)]).unwrap();
        assert_eq!(found.inputs, Some(vec![number("age"), number("income")]), "{:?}", found.format);
        assert_eq!(found.outputs, None);
    }
    for bytes in [build::xgboost_json(), build::xgboost_ubjson()] {
        assert_eq!(look(&[("m", bytes)]).unwrap().flavors["xgboost"]["xgb_version"], "2.1.4");
    }
    assert_eq!(look(&[("m", build::weights())]).unwrap().flavors["safetensors"]["tensors"], 2);
}

#[test]
fn several_files_are_one_model_or_are_refused() {
    let readme = || ("README.md", b"# a model".to_vec());
    assert_eq!(look(&[readme(), ("net.bin", build::onnx())]).unwrap().main, "net.bin");
    let shards = [
        ("a-1-of-2", build::weights()),
        ("a-2-of-2", build::weights()),
        ("index.json", b"{\"weight_map\":{}}".to_vec()),
    ];
    assert_eq!(look(&shards).unwrap().format, Format::Safetensors);
    refused(&[("a", build::onnx()), ("b", build::lightgbm())], "hold 2 models: `a` (onnx), `b` (lightgbm)");
    refused(&[readme(), ("notes", b"nothing".to_vec())], "hold no model");
    refused(&[("notes", b"nothing".to_vec())], "`notes` is a model of no format that is known");
    refused(&[("empty", Vec::new())], "`empty`");
    refused(&[], "0 where 1 to");
    refused(&[("MLmodel", b"[]".to_vec())], "lists no flavors");
    let mut broken = build::weights();
    broken.push(0);
    refused(&[("a-1-of-2", build::weights()), ("a-2-of-2", broken)], "`a-2-of-2` has 1 bytes that belong to no tensor");
}

#[test]
fn a_lying_safetensors_header_is_found_out() {
    let of = |header: &str, data: usize| [("w", safetensors(header, data))];
    let one = |entry: &str| format!("{{\"a\":{entry}}}");
    let mut long = build::weights();
    long[..8].copy_from_slice(&(1_u64 << 63).to_le_bytes());
    refused(&[("w", long)], "its header has 9223372036854775808 bytes");
    let f32s = |shape: &str, from: u64, to: u64| {
        format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    };
    for (header, data, word) in [
        (format!("{{\"a\":{},\"b\":{}}}", f32s("[2]", 0, 8), f32s("[2]", 4, 12)), 12, "overlaps another"),
        (format!("{{\"a\":{},\"b\":{}}}", f32s("[1]", 0, 4), f32s("[1]", 8, 12)), 12, "leaves a gap"),
        (one(&f32s("[2]", 0, 9)), 9, "in 9 bytes"),
        (one(&f32s("[2]", 0, 8)), 4, "at bytes 0 to 8 of 4"),
        (one(&f32s("[2]", 8, 0)), 8, "at bytes 8 to 0"),
        (one(&f32s("[4294967296, 4294967296, 16]", 0, 8)), 8, "of shape"),
        (one(&f32s("[-1]", 0, 4)), 4, "wrong header"),
        (one(&f32s("[1]", 0, 4).replace("F32", "F99")), 4, "unknown type \"F99\""),
        (one(&f32s("[1]", 0, 4).replace("dtype", "kind")), 4, "unknown field `kind`"),
        (format!("{{\"a\":{0},\"a\":{0}}}", f32s("[1]", 0, 4)), 4, "\"a\" stands in it twice"),
        (one(&f32s("[1]", 0, 4)), 5, "1 bytes that belong to no tensor"),
        ("{\"a\":".to_owned(), 0, "wrong header"),
        (format!("{{\"a\":{}", "[".repeat(100_000)), 0, "wrong header"),
    ] {
        refused(&of(&header, data), word);
    }
    let mut not_text = safetensors("{\"abc\":1}", 0);
    not_text[11] = 0xff;
    refused(&[("w", not_text)], "not UTF-8");
}

#[test]
fn an_onnx_model_that_reaches_out_or_lies_is_found_out() {
    let with = |tensor: Vec<u8>| model(&[bytes(5, &tensor), bytes(12, &column("y", &[1]))]);
    let beside = |place: &[(&str, &str)]| [("m", with(tensor_beside("w", &[4], place))), ("w.data", vec![0; 16])];
    assert_eq!(look(&beside(&[("location", "w.data")])).unwrap().format, Format::Onnx);
    assert!(look(&beside(&[("location", "w.data"), ("offset", "0"), ("length", "16")])).is_ok());
    for location in [
        "../w.data",
        "/etc/passwd",
        "a/../../w.data",
        "..",
        ".",
        "",
        "C:\\x",
        "file:///etc/passwd",
        "w.data\0",
        "sub/w.data",
    ] {
        refused(&beside(&[("location", location)]), "not the name of a file beside it");
    }
    refused(&beside(&[("location", "other")]), "not beside it");
    refused(&beside(&[("location", "w.data"), ("offset", "4")]), "at byte 4 of `w.data`, which has 16 bytes");
    refused(&beside(&[("location", "w.data"), ("offset", "18446744073709551615"), ("length", "2")]), "at byte");
    refused(&beside(&[("location", "w.data"), ("length", "many")]), "whose length is");
    refused(
        &[("m", with(tensor_beside("w", &[1 << 40], &[("location", "w.data")]))), ("w.data", vec![0; 16])],
        "1099511627776 elements",
    );

    refused(&[("m", with(tensor("w", &[1 << 31, 1 << 31, 1 << 31], b"")))], "than can be counted");
    refused(&[("m", with(tensor("w", &[1 << 31], &[0; 4])))], "2147483648 elements for which it holds 4 bytes");
    refused(&[("m", with(tensor("w", &[u64::MAX], &[0; 4])))], "a dimension of -1");
    refused(&[("m", with(tensor("w", &[3], &[0; 8])))], "3 elements for which it holds 8");
    refused(
        &[("m", with([number(1, 5), number(2, 1), bytes(4, &[0, 0])].concat()))],
        "5 elements for which it holds 2",
    );
    refused(&[("m", model(&[bytes(11, &column("x", &[u64::MAX]))]))], "a dimension of -1");
    let nested = (0..200).fold(bytes(2, b"innermost"), |graph, _| bytes(1, &node(&graph)));
    refused(&[("m", model(&[nested]))], "nests deeper than 64");
    refused(&[("m", [number(1, 10), bytes(2, b"nobody")].concat())], "holds no graph");
    let mut cut = build::onnx();
    cut.truncate(cut.len() - 5);
    refused(&[("m", cut)], "says more at byte");
}

#[test]
fn an_archive_that_leads_out_or_explodes_is_found_out() {
    let torch = |more: (&str, u32)| {
        let names = [("n/data.pkl", 1), ("n/code/a.py", 1), ("n/constants.pkl", 1), more];
        [("m", zip(&names))]
    };
    assert_eq!(look(&torch(("n/version", 1))).unwrap().format, Format::TorchScript);
    for name in ["../../etc/cron.d/x", "/etc/passwd", "n/../../x", "n\\..\\x", "C:x", "n/\0x"] {
        refused(&torch((name, 1)), "leads out of it");
    }
    refused(&torch(("n/data.pkl", 1)), "two entries \"n/data.pkl\"");
    refused(&torch(("n/zeros", u32::MAX - 1)), "unpacks to 4294967297");
    let whole = zip(&[("n/data.pkl", 1)]);
    refused(&[("m", whole[..whole.len() - 4].to_vec())], "without a list");
    let mut far = whole.clone();
    let end = far.len();
    far[end - 6..end - 2].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    refused(&[("m", far)], "is said to begin at byte 2147483647");
    let mut many = whole;
    many[end - 12..end - 10].copy_from_slice(&900_u16.to_le_bytes());
    refused(&[("m", many)], "`m`");
}

#[test]
fn trees_that_nest_without_end_or_lie_are_found_out() {
    let deep = |open: &str| format!("{{\"learner\":{{\"a\":{}", open.repeat(100_000)).into_bytes();
    refused(&[("m", deep("["))], "nests too deep");
    refused(&[("m", deep("{\"a\":"))], "nests too deep");
    refused(&[("m", format!("{{\"learner\":{{\"a\":\"{}", "x".repeat(2 << 20)).into_bytes())], "too long");
    refused(&[("m", b"{\"learner\":{}, \"version\":[1]}".to_vec())], "missing field");
    let mut binary = build::xgboost_ubjson();
    binary.push(b'Z');
    refused(&[("m", binary)], "1 bytes behind its end");
    let key = [b"{L".as_slice(), &7_u64.to_be_bytes(), b"learner"].concat();
    refused(&[("m", [&key[..], &b"[".repeat(100_000)].concat())], "nests deeper than 64");
    refused(&[("m", [&key[..], b"[$d#L", &u64::MAX.to_be_bytes()].concat())], "impossible length");
    refused(&[("m", [&key[..], b"[$d#L", &(i64::MAX as u64).to_be_bytes()].concat())], "impossible length");
    refused(&[("m", [&key[..], b"[$T#L", &(1_u64 << 40).to_be_bytes(), b"}"].concat())], "no learner");

    let text = String::from_utf8(build::lightgbm()).unwrap();
    for (from, to, word) in [
        ("max_feature_idx=1", "max_feature_idx=18446744073709551615", "2 names of features"),
        ("tree_sizes=", "tree_sizes=99999999 ", "its trees take"),
        ("tree_sizes=", "tree_sizes=x", "has a size of"),
        ("end of trees", "", "it was cut off"),
        ("feature_names", "names", "no `feature_names=`"),
    ] {
        refused(&[("m", text.replacen(from, to, 1).into_bytes())], word);
    }
}

/// A file that says it is long, of zeros where nothing else stands, and that counts what is read of it.
struct Long {
    start: Vec<u8>,
    len: u64,
    read: Arc<AtomicU64>,
}

impl ReadAt for Long {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::SeqCst);
        if offset + buffer.len() as u64 > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        let from = usize::try_from(offset).unwrap().min(self.start.len());
        let count = buffer.len().min(self.start.len() - from);
        buffer[..count].copy_from_slice(&self.start[from..from + count]);
        Ok(())
    }
}

#[test]
fn a_file_of_a_terabyte_costs_no_more_than_its_header() {
    const LEN: u64 = 1 << 40;
    let header = format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{0}],\"data_offsets\":[0,{0}]}}}}", LEN - 8 - 77);
    let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    assert_eq!(weights.len(), 8 + 77);
    let claims = |bytes: u64| [&bytes.to_le_bytes()[..], b"{\"a\":"].concat();
    let raw = [&number(1, 10)[..], &build::varint(7 << 3 | 2), &build::varint(LEN - 20)].concat();
    for (start, known) in [
        (weights, true),
        (claims(LEN / 2), false),
        (claims(100 << 20), false),
        (raw, false),
        ([number(1, 10), bytes(2, b"x"), number(14, 0).repeat(100_000)].concat(), false),
        (b"PK\x03\x04".to_vec(), false),
        (b"tree\nversion=v4\n".to_vec(), false),
        ([b"{L".as_slice(), &7_u64.to_be_bytes(), b"learner[$D#L", &(1_u64 << 36).to_be_bytes()].concat(), false),
        (b"nothing".to_vec(), false),
    ] {
        let read = Arc::new(AtomicU64::new(0));
        let shown = start[..start.len().min(24)].escape_ascii().to_string();
        let file: Box<dyn ReadAt> = Box::new(Long { start, len: LEN, read: read.clone() });
        let began = Instant::now();
        let found = recognise(&BTreeMap::from([("m".to_owned(), file)]));
        assert_eq!(found.is_ok(), known, "{shown}: {found:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{shown} took {:?}", began.elapsed());
        let read = read.load(Ordering::SeqCst);
        assert!(read < 64 << 20, "{shown}: {read} bytes were read");
    }
}

/// How a file is spoilt.
#[derive(Debug, Clone)]
enum Spoil {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, usize),
    Huge(prop::sample::Index),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    use prop::sample::Index;
    prop_oneof![
        4 => (any::<Index>(), 1..=255_u8).prop_map(|(at, bits)| Spoil::Flip(at, bits)),
        1 => any::<Index>().prop_map(Spoil::Cut),
        1 => (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, more)| Spoil::Insert(at, more)),
        1 => (any::<Index>(), 1..64_usize).prop_map(|(at, count)| Spoil::Repeat(at, count)),
        2 => any::<Index>().prop_map(Spoil::Huge),
    ]
}

fn apply(bytes: &mut Vec<u8>, spoil: &Spoil) {
    if bytes.is_empty() {
        return;
    }
    match spoil {
        Spoil::Flip(at, bits) => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Spoil::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Spoil::Insert(at, more) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }
        Spoil::Repeat(at, count) => {
            let from = at.index(bytes.len());
            let part = bytes[from..bytes.len().min(from + 16)].repeat(*count);
            bytes.splice(from..from, part);
        }
        Spoil::Huge(at) => {
            let from = at.index(bytes.len());
            let to = bytes.len().min(from + 8);
            bytes[from..to].fill(0xff);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_500,
        rng_seed: proptest::test_runner::RngSeed::Fixed(11),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_spoilt_file_makes_a_reader_panic_or_hang(which in 0..11_usize, spoils in vec(spoil(), 1..6)) {
        let mut bytes = whole().swap_remove(which).1;
        spoils.iter().for_each(|spoil| apply(&mut bytes, spoil));
        let began = Instant::now();
        if let Err(error) = look(&[("m", bytes)]) {
            prop_assert!(error.to_string().len() < 2_000, "{error}");
        }
        prop_assert!(began.elapsed() < Duration::from_secs(1));
    }
}
