//! Models through the front door: written by the builder, run by ONNX Runtime.

use std::sync::{Arc, Once};

use backends::{
    Backend, BackendError, MODEL_FILE, OUTPUT,
    onnx::{
        GraphBuilder,
        proto::{ModelProto, StringStringEntryProto},
    },
};
use domain::{Coded as _, Column, ErrorCode, Field, Frame, FrameError, ModelFiles, Signature, ValueType};
use prost::Message as _;

fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        backends::silence_telemetry();
        let info = backends::init(None).unwrap();
        assert_ne!(info.version, "unknown", "{info:?}");
    });
}

fn signature(fields: &[(&str, ValueType)]) -> Signature {
    Signature {
        inputs: fields.iter().map(|&(name, kind)| Field::new(name, kind)).collect(),
        outputs: vec![Field::new(OUTPUT, ValueType::Float)],
    }
}

fn open(signature: &Signature, model: Vec<u8>) -> Result<Arc<dyn Backend>, BackendError> {
    start();
    backends::load(signature, &ModelFiles::from([(MODEL_FILE.to_owned(), model.into())]))
}

fn refusal(result: Result<Arc<dyn Backend>, BackendError>) -> BackendError {
    result.err().expect("a refusal")
}

/// sigmoid(x + 2 * flag + code(where)), code: "a" is 10, anything else 0; a null `x` counts as 1.
fn mixed() -> Vec<u8> {
    let mut g = GraphBuilder::new("mixed");
    let x = g.input::<f32>("x");
    let flag = g.input::<f32>("flag");
    let place = g.input::<str>("where");
    let one = g.floats(&[], &[1.0]);
    let null = g.is_nan(&x);
    let x = g.choose(&null, &one, &x);
    let code = g.encode_texts(&place, &["a", "b"], &[1, 0], 0);
    let code = g.reshape(&code, &[-1]);
    let table = g.floats(&[2, 1], &[0.0, 10.0]);
    let code = g.gather(&table, &code, 0);
    let joined = g.concat(&[x, flag, code]);
    let weights = g.floats(&[3, 1], &[1.0, 2.0, 1.0]);
    let bias = g.floats(&[1], &[0.0]);
    let z = g.gemm(&joined, &weights, &bias);
    let p = g.sigmoid(&z);
    g.output(OUTPUT, &p);
    g.finish()
}

fn mixed_signature() -> Signature {
    signature(&[("x", ValueType::Float), ("flag", ValueType::Bool), ("where", ValueType::Text)])
}

fn mixed_rows() -> Frame {
    Frame::new([
        ("unused".into(), Column::Int(vec![Some(1); 4])),
        ("where".into(), Column::Text(vec![Some("a".into()), Some("zebra".into()), None, Some("a\0b".into())])),
        ("x".into(), Column::Float(vec![Some(-10.0), None, Some(0.0), Some(f64::MAX)])),
        ("flag".into(), Column::Bool(vec![None, Some(true), Some(false), Some(false)])),
    ])
    .unwrap()
}

fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

#[test]
fn columns_are_found_by_name_and_nulls_reach_the_graph() {
    let model = open(&mixed_signature(), mixed()).unwrap();
    let mut rows = mixed_rows();
    assert!(matches!(model.predict(&rows), Err(BackendError::NoProbability { row: 0, .. })), "a null flag is NaN");
    rows.remove("flag");
    rows.add("flag", Column::Bool(vec![Some(false), Some(true), Some(false), Some(false)])).unwrap();
    let scores = model.predict(&rows).unwrap();
    for (found, wanted) in scores.iter().zip([sigmoid(0.0), sigmoid(3.0), 0.5, 1.0]) {
        assert!((found - wanted).abs() < 1e-6, "{scores:?}");
    }
}

#[test]
fn no_rows_give_no_scores() {
    let model = open(&mixed_signature(), mixed()).unwrap();
    assert_eq!(model.predict(&mixed_rows().take(&[])).unwrap(), Vec::<f32>::new());
}

#[test]
fn a_missing_or_mistyped_column_is_named() {
    let model = open(&mixed_signature(), mixed()).unwrap();
    let mut rows = mixed_rows();
    rows.remove("x");
    let error = model.predict(&rows).unwrap_err();
    assert!(matches!(&error, BackendError::Input(FrameError::Missing(name)) if &**name == "x"));
    rows.add("x", Column::Text(vec![None; 4])).unwrap();
    let error = model.predict(&rows).unwrap_err();
    assert_eq!(error.to_string(), "input column `x` is text where float is needed");
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
}

#[test]
fn many_threads_share_one_model() {
    let model = open(&mixed_signature(), mixed()).unwrap();
    let rows = mixed_rows().take(&[2]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(model.predict(&rows).unwrap(), [0.5])));
        }
    });
}

#[test]
fn a_model_that_does_not_match_its_signature_is_refused() {
    let missing = signature(&[("x", ValueType::Float), ("flag", ValueType::Bool)]);
    assert!(refusal(open(&missing, mixed())).to_string().contains("`where` is not in the signature"));
    let mut extra = mixed_signature();
    extra.inputs.push(Field::new("y", ValueType::Int));
    assert!(refusal(open(&extra, mixed())).to_string().contains("no input `y`"));
    let mut retyped = mixed_signature();
    retyped.inputs[0].kind = ValueType::Text;
    assert!(refusal(open(&retyped, mixed())).to_string().contains("input `x` is"));
    let mut timed = mixed_signature();
    timed.inputs[0].kind = ValueType::Timestamp;
    assert!(matches!(refusal(open(&timed, mixed())), BackendError::NoTensor { .. }));
}

#[test]
fn bytes_that_are_no_model_are_refused() {
    for bytes in [&b""[..], b"not a model", &mixed()[..100]] {
        let error = refusal(open(&mixed_signature(), bytes.to_vec()));
        assert!(matches!(error, BackendError::Malformed(_)), "{error}");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
    start();
    let error = refusal(backends::load(&mixed_signature(), &ModelFiles::new()));
    assert_eq!(error.to_string(), "the model has no file `model.onnx`");
}

#[test]
fn a_model_that_points_at_other_files_is_refused() {
    let mut model = ModelProto::decode(&*mixed()).unwrap();
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    let entry = StringStringEntryProto { key: Some("location".into()), value: Some("/etc/passwd".into()) };
    (tensor.data_location, tensor.raw_data) = (Some(1), None);
    tensor.external_data = vec![entry];
    let error = refusal(open(&mixed_signature(), model.encode_to_vec()));
    assert!(matches!(error, BackendError::ExternalData { .. }), "{error}");
}

#[test]
fn every_node_of_the_builder_computes_what_its_name_says() {
    let mut g = GraphBuilder::new("nodes");
    let x = g.input::<f32>("x");
    let two = g.floats(&[], &[2.0]);
    let three = g.floats(&[], &[3.0]);
    let keys = g.floats(&[1, 2], &[0.5, 7.0]);
    let equal = g.equal(&x, &keys);
    let mut parts = vec![
        g.add(&x, &two),
        g.sub(&x, &two),
        g.mul(&x, &two),
        g.div(&x, &two),
        g.max(&x, &three),
        g.min(&x, &two),
        g.clip(&x, -1.0, 1.0),
        g.floor(&x),
        g.log(&x),
        g.sin(&x),
        g.cos(&x),
        g.relu(&x),
        g.flag_to_float(&equal),
    ];
    let code = g.encode_floats(&x, &[0.5, -1.0], &[3, 1], 0);
    let code = g.reshape(&code, &[-1]);
    let table = g.floats(&[4, 1], &[0.1, 0.2, 0.3, 0.4]);
    parts.push(g.gather(&table, &code, 0));
    let all = g.concat(&parts);
    let which = g.input::<f32>("which");
    let number = g.encode_floats(&which, &(0..15).map(|i| i as f32).collect::<Vec<_>>(), &Vec::from_iter(0..15), 0);
    // Rows pick one part each: the score is its value, squeezed into 0..1.
    let eye: Vec<f32> = (0..225).map(|i| f32::from(u8::from(i % 16 == 0))).collect();
    let eye = g.floats(&[15, 15], &eye);
    let number = g.reshape(&number, &[-1]);
    let mask = g.gather(&eye, &number, 0);
    let picked = g.mul(&all, &mask);
    let ones = g.floats(&[15, 1], &[1.0; 15]);
    let zero = g.floats(&[1], &[0.0]);
    let sum = g.gemm(&picked, &ones, &zero);
    let p = g.sigmoid(&sum);
    g.output(OUTPUT, &p);

    let x = 0.5_f32;
    let wanted = [2.5, -1.5, 1.0, 0.25, 3.0, 0.5, 0.5, 0.0, x.ln(), x.sin(), x.cos(), 0.5, 1.0, 0.0, 0.4_f32];
    let signature = signature(&[("x", ValueType::Float), ("which", ValueType::Int)]);
    let model = open(&signature, g.finish()).unwrap();
    let rows = Frame::new([
        ("x".into(), Column::Float(vec![Some(0.5); 15])),
        ("which".into(), Column::Int((0..15).map(Some).collect())),
    ])
    .unwrap();
    let scores = model.predict(&rows).unwrap();
    for (part, (found, wanted)) in scores.iter().zip(wanted).enumerate() {
        assert!((found - sigmoid(wanted)).abs() < 1e-6, "part {part}: {found} for {wanted}");
    }
}

#[test]
fn loading_again_answers_with_the_library_in_use() {
    start();
    let first = backends::init(None).unwrap();
    assert_eq!(backends::init(Some(&first.path)).unwrap(), first);
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("libonnxruntime.so.9.9.9");
    std::fs::write(&other, b"another").unwrap();
    assert!(matches!(backends::init(Some(&other)), Err(BackendError::OtherLibrary { .. })));
}
