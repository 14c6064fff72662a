//! Small whole files of each format, put together by hand from what their documentation says.

/// A protobuf field of bytes.
pub fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A protobuf field of a number.
pub fn number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A tensor of floats, with its elements inside.
pub fn tensor(name: &str, dims: &[u64], raw: &[u8]) -> Vec<u8> {
    let dims = dims.iter().map(|dim| number(1, *dim)).collect::<Vec<_>>().concat();
    [dims, number(2, 1), bytes(8, name.as_bytes()), bytes(9, raw)].concat()
}

/// A tensor of floats whose elements lie in another file.
pub fn tensor_beside(name: &str, dims: &[u64], place: &[(&str, &str)]) -> Vec<u8> {
    let dims = dims.iter().map(|dim| number(1, *dim)).collect::<Vec<_>>().concat();
    let place =
        place.iter().map(|(key, value)| bytes(13, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat()));
    [dims, number(2, 1), bytes(8, name.as_bytes()), place.collect::<Vec<_>>().concat(), number(14, 1)].concat()
}

/// An input or output of floats; 0 stands for any length.
pub fn column(name: &str, dims: &[u64]) -> Vec<u8> {
    let dim = |dim: &u64| bytes(1, &if *dim == 0 { bytes(2, b"N") } else { number(1, *dim) });
    let shape = bytes(2, &dims.iter().map(dim).collect::<Vec<_>>().concat());
    let kind = bytes(1, &[number(1, 1), shape].concat());
    [bytes(1, name.as_bytes()), bytes(2, &kind)].concat()
}

/// A node with a subgraph in an attribute.
pub fn node(subgraph: &[u8]) -> Vec<u8> {
    let attribute = [bytes(1, b"body"), bytes(6, subgraph)].concat();
    [bytes(1, b"x"), bytes(2, b"y"), bytes(4, b"Loop"), bytes(5, &attribute)].concat()
}

/// A model of a graph's fields.
pub fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    let opset = [bytes(1, b""), number(2, 21)].concat();
    [number(1, 10), bytes(2, b"by hand"), bytes(7, &graph.concat()), bytes(8, &opset)].concat()
}

pub fn onnx() -> Vec<u8> {
    let weights = tensor("w", &[3, 1], &[0; 12]);
    model(&[
        bytes(1, &node(&bytes(5, &tensor("inner", &[2], &[0; 8])))),
        bytes(2, b"graph"),
        bytes(5, &weights),
        bytes(11, &column("x", &[0, 3])),
        bytes(11, &column("w", &[3, 1])),
        bytes(12, &column("y", &[0, 1])),
    ])
}

pub fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![7; data]].concat()
}

pub fn weights() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}}"#;
    safetensors(header, 22)
}

pub fn xgboost_json() -> Vec<u8> {
    serde_json::json!({
        "learner": {
            "attributes": {}, "feature_names": ["age", "income"], "feature_types": ["int", "float"],
            "gradient_booster": {
                "model": {
                    "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": "1"},
                    "tree_info": [0],
                    "trees": [{
                        "base_weights": [0.0, -0.5, 0.5], "default_left": [0, 0, 0], "id": 0,
                        "left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_conditions": [0.5, -0.5, 0.5],
                        "split_indices": [0, 0, 0], "tree_param": {"num_feature": "2", "num_nodes": "3"},
                    }],
                },
                "name": "gbtree",
            },
            "learner_model_param": {"base_score": "5E-1", "num_class": "0", "num_feature": "2", "num_target": "1"},
            "objective": {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}},
        },
        "version": [2, 1, 4],
    })
    .to_string()
    .into_bytes()
}

/// The same as UBJSON: numbers that are not whole as 32-bit floats, arrays of them end to end as XGBoost does.
pub fn xgboost_ubjson() -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(&xgboost_json()).expect("JSON");
    let mut out = Vec::new();
    ubjson(&value, &mut out);
    out
}

fn ubjson(value: &serde_json::Value, out: &mut Vec<u8>) {
    use serde_json::Value as V;
    let text = |text: &str, out: &mut Vec<u8>| {
        out.push(b'L');
        out.extend((text.len() as u64).to_be_bytes());
        out.extend(text.as_bytes());
    };
    match value {
        V::String(string) => {
            out.push(b'S');
            text(string, out);
        }
        V::Object(members) => {
            out.push(b'{');
            for (name, member) in members {
                text(name, out);
                ubjson(member, out);
            }
            out.push(b'}');
        }
        V::Array(items) if !items.is_empty() && items.iter().all(V::is_f64) => {
            out.extend(b"[$d#L");
            out.extend((items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| out.extend((item.as_f64().expect("a number") as f32).to_be_bytes()));
        }
        V::Array(items) => {
            out.push(b'[');
            items.iter().for_each(|item| ubjson(item, out));
            out.push(b']');
        }
        V::Number(number) => {
            out.push(b'l');
            out.extend((number.as_i64().expect("whole") as i32).to_be_bytes());
        }
        V::Bool(_) | V::Null => out.push(b'Z'),
    }
}

pub fn lightgbm() -> Vec<u8> {
    let tree = "Tree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nthreshold=0.5\nleft_child=-1\nright_child=-2\nleaf_value=-0.5 0.5\nshrinkage=1\n\n\n";
    let head = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=1\nobjective=binary sigmoid:1\nfeature_names=age income\nfeature_infos=[0:1] [0:1]";
    format!("{head}\ntree_sizes={}\n\n{tree}end of trees\n\nfeature_importances:\nage=1\n\nparameters:\n[boosting: gbdt]\nend of parameters\n", tree.len())
        .into_bytes()
}

/// A ZIP archive of stored, empty entries; of each its name and the length it is said to unpack to.
pub fn zip(entries: &[(&str, u32)]) -> Vec<u8> {
    let (mut out, mut list) = (Vec::new(), Vec::new());
    for (name, unpacked) in entries {
        let at = (out.len() as u32).to_le_bytes();
        let length = (name.len() as u16).to_le_bytes();
        out.extend([b"PK\x03\x04".as_slice(), &[20, 0], &[0; 20], &length, &[0, 0], name.as_bytes()].concat());
        list.extend([b"PK\x01\x02".as_slice(), &[20, 0], &[0; 14], &[0; 4], &unpacked.to_le_bytes(), &length].concat());
        list.extend([[0; 12].as_slice(), &at, name.as_bytes()].concat());
    }
    let (count, at) = ((entries.len() as u16).to_le_bytes(), (out.len() as u32).to_le_bytes());
    let size = (list.len() as u32).to_le_bytes();
    out.extend(list);
    out.extend([b"PK\x05\x06".as_slice(), &[0; 4], &count, &count, &size, &at, &[0, 0]].concat());
    out
}

pub fn torchscript() -> Vec<u8> {
    zip(&[("net/data.pkl", 10), ("net/code/__torch__.py", 10), ("net/constants.pkl", 4), ("net/version", 2)])
}
