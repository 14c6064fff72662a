use std::{fmt, marker::PhantomData};

use prost::Message as _;

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type, data_type,
};

/// IR version of the files we write.
pub const IR_VERSION: i64 = 8;
/// Operator set of the files we write.
pub const OPSET: i64 = 17;
/// Operator set of `ai.onnx.ml` (label encoders) in the files we write.
pub const ML_OPSET: i64 = 3;
const ML: &str = "ai.onnx.ml";

/// A type that tensors hold.
pub trait Element {
    #[doc(hidden)]
    const DATA_TYPE: i32;
}

impl Element for f32 {
    const DATA_TYPE: i32 = data_type::FLOAT;
}
impl Element for i64 {
    const DATA_TYPE: i32 = data_type::INT64;
}
impl Element for str {
    const DATA_TYPE: i32 = data_type::STRING;
}

/// The element type of comparisons. (Not `bool`, whose tensors we never feed.)
#[derive(Debug)]
pub enum Flag {}

impl Element for Flag {
    const DATA_TYPE: i32 = data_type::BOOL;
}

/// A tensor inside a graph, known by name, with elements of type `T`.
pub struct Wire<T: Element + ?Sized> {
    name: String,
    element: PhantomData<fn() -> Box<T>>,
}

impl<T: Element + ?Sized> Wire<T> {
    fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), element: PhantomData }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T: Element + ?Sized> Clone for Wire<T> {
    fn clone(&self) -> Self {
        Self::named(self.name.clone())
    }
}

impl<T: Element + ?Sized> fmt::Debug for Wire<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Writes an ONNX model node by node; element types are checked by the compiler, shapes by ONNX Runtime.
///
/// ```
/// let mut graph = backends::onnx::GraphBuilder::new("double");
/// let x = graph.input::<f32>("x");
/// let twice = graph.add(&x, &x);
/// graph.output("y", &twice);
/// assert!(!graph.finish().is_empty());
/// ```
pub struct GraphBuilder {
    graph: GraphProto,
    made: usize,
}

impl GraphBuilder {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: Some(name.to_owned()), ..GraphProto::default() }, made: 0 }
    }

    /// Adds an input column, shape `[N, 1]`.
    pub fn input<T: Element + ?Sized>(&mut self, name: &str) -> Wire<T> {
        self.graph.input.push(column::<T>(name));
        Wire::named(name)
    }

    /// Makes `wire` an output column, shape `[N, 1]`, under `name`.
    pub fn output<T: Element + ?Sized>(&mut self, name: &str, wire: &Wire<T>) {
        self.graph.node.push(NodeProto {
            input: vec![wire.name.clone()],
            output: vec![name.to_owned()],
            name: Some(format!("{name}.out")),
            op_type: Some("Identity".to_owned()),
            ..NodeProto::default()
        });
        self.graph.output.push(column::<T>(name));
    }

    /// A constant of any shape; `values` in row-major order.
    ///
    /// # Panics
    /// When the shape does not have as many elements as `values`.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> Wire<f32> {
        let raw = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(shape, values.len(), raw)
    }

    /// A constant of any shape; `values` in row-major order.
    ///
    /// # Panics
    /// When the shape does not have as many elements as `values`.
    pub fn ints(&mut self, shape: &[usize], values: &[i64]) -> Wire<i64> {
        let raw = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(shape, values.len(), raw)
    }

    fn constant<T: Element>(&mut self, shape: &[usize], found: usize, raw: Vec<u8>) -> Wire<T> {
        assert_eq!(shape.iter().product::<usize>(), found, "a constant fills its shape");
        let wire = Wire::named(self.fresh("const"));
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|&n| n as i64).collect(),
            data_type: Some(T::DATA_TYPE),
            name: Some(wire.name.clone()),
            raw_data: Some(raw),
            ..TensorProto::default()
        });
        wire
    }

    pub fn add(&mut self, a: &Wire<f32>, b: &Wire<f32>) -> Wire<f32> {
        self.node("Add", &[&a.name, &b.name], Vec::new())
    }

    pub fn sub(&mut self, a: &Wire<f32>, b: &Wire<f32>) -> Wire<f32> {
        self.node("Sub", &[&a.name, &b.name], Vec::new())
    }

    pub fn mul(&mut self, a: &Wire<f32>, b: &Wire<f32>) -> Wire<f32> {
        self.node("Mul", &[&a.name, &b.name], Vec::new())
    }

    pub fn div(&mut self, a: &Wire<f32>, b: &Wire<f32>) -> Wire<f32> {
        self.node("Div", &[&a.name, &b.name], Vec::new())
    }

    pub fn max(&mut self, a: &Wire<f32>, b: &Wire<f32>) -> Wire<f32> {
        self.node("Max", &[&a.name, &b.name], Vec::new())
    }

    pub fn min(&mut self, a: &Wire<f32>, b: &Wire<f32>) -> Wire<f32> {
        self.node("Min", &[&a.name, &b.name], Vec::new())
    }

    /// Cuts all elements at the same two limits; [`Self::max`] and [`Self::min`] take limits per column.
    pub fn clip(&mut self, x: &Wire<f32>, low: f32, high: f32) -> Wire<f32> {
        let (low, high) = (self.floats(&[], &[low]), self.floats(&[], &[high]));
        self.node("Clip", &[&x.name, &low.name, &high.name], Vec::new())
    }

    pub fn log(&mut self, x: &Wire<f32>) -> Wire<f32> {
        self.node("Log", &[&x.name], Vec::new())
    }

    pub fn floor(&mut self, x: &Wire<f32>) -> Wire<f32> {
        self.node("Floor", &[&x.name], Vec::new())
    }

    /// Sine of radians.
    pub fn sin(&mut self, x: &Wire<f32>) -> Wire<f32> {
        self.node("Sin", &[&x.name], Vec::new())
    }

    /// Cosine of radians.
    pub fn cos(&mut self, x: &Wire<f32>) -> Wire<f32> {
        self.node("Cos", &[&x.name], Vec::new())
    }

    pub fn relu(&mut self, x: &Wire<f32>) -> Wire<f32> {
        self.node("Relu", &[&x.name], Vec::new())
    }

    pub fn sigmoid(&mut self, x: &Wire<f32>) -> Wire<f32> {
        self.node("Sigmoid", &[&x.name], Vec::new())
    }

    pub fn is_nan(&mut self, x: &Wire<f32>) -> Wire<Flag> {
        self.node("IsNaN", &[&x.name], Vec::new())
    }

    pub fn equal<T: Element + ?Sized>(&mut self, a: &Wire<T>, b: &Wire<T>) -> Wire<Flag> {
        self.node("Equal", &[&a.name, &b.name], Vec::new())
    }

    /// `yes` where `condition` holds, else `no`; shapes are broadcast.
    pub fn choose(&mut self, condition: &Wire<Flag>, yes: &Wire<f32>, no: &Wire<f32>) -> Wire<f32> {
        self.node("Where", &[&condition.name, &yes.name, &no.name], Vec::new())
    }

    /// 1 where the flag holds, else 0.
    pub fn flag_to_float(&mut self, x: &Wire<Flag>) -> Wire<f32> {
        self.node("Cast", &[&x.name], vec![int("to", i64::from(data_type::FLOAT))])
    }

    /// The slices of `data` at `indices` along `axis`.
    pub fn gather(&mut self, data: &Wire<f32>, indices: &Wire<i64>, axis: i64) -> Wire<f32> {
        self.node("Gather", &[&data.name, &indices.name], vec![int("axis", axis)])
    }

    /// Joins columns side by side; one alone is passed on.
    ///
    /// # Panics
    /// When there are none.
    pub fn concat(&mut self, parts: &[Wire<f32>]) -> Wire<f32> {
        match parts {
            [] => panic!("nothing to join"),
            [one] => one.clone(),
            _ => {
                let names: Vec<&str> = parts.iter().map(Wire::name).collect();
                self.node("Concat", &names, vec![int("axis", 1)])
            }
        }
    }

    /// `x * weights + bias`; `weights` is `[inputs, outputs]`, `bias` `[outputs]`.
    pub fn gemm(&mut self, x: &Wire<f32>, weights: &Wire<f32>, bias: &Wire<f32>) -> Wire<f32> {
        self.node("Gemm", &[&x.name, &weights.name, &bias.name], Vec::new())
    }

    /// The same elements in another shape; `-1` stands for the one length that follows from the rest.
    pub fn reshape<T: Element + ?Sized>(&mut self, x: &Wire<T>, shape: &[i64]) -> Wire<T> {
        let shape = self.ints(&[shape.len()], shape);
        self.node("Reshape", &[&x.name, &shape.name], Vec::new())
    }

    /// The number of each text: `keys[i]` becomes `values[i]`, any other text `otherwise`.
    pub fn encode_texts(&mut self, x: &Wire<str>, keys: &[&str], values: &[i64], otherwise: i64) -> Wire<i64> {
        let keys = AttributeProto {
            strings: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            ..attribute("keys_strings", attribute_type::STRINGS)
        };
        self.ml_node(
            "LabelEncoder",
            &x.name,
            vec![keys, ints("values_int64s", values), int("default_int64", otherwise)],
        )
    }

    /// The number of each float: `keys[i]` becomes `values[i]`, any other float (and NaN) `otherwise`.
    pub fn encode_floats(&mut self, x: &Wire<f32>, keys: &[f32], values: &[i64], otherwise: i64) -> Wire<i64> {
        let keys = AttributeProto { floats: keys.to_vec(), ..attribute("keys_floats", attribute_type::FLOATS) };
        self.ml_node(
            "LabelEncoder",
            &x.name,
            vec![keys, ints("values_int64s", values), int("default_int64", otherwise)],
        )
    }

    /// The model file.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let opset =
            |domain: &str, version| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("millpond".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(self.graph),
            opset_import: vec![opset("", OPSET), opset(ML, ML_OPSET)],
            functions: Vec::new(),
        }
        .encode_to_vec()
    }

    fn node<T: Element + ?Sized>(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> Wire<T> {
        self.push(op, None, inputs, attributes)
    }

    fn ml_node<T: Element + ?Sized>(&mut self, op: &str, input: &str, attributes: Vec<AttributeProto>) -> Wire<T> {
        self.push(op, Some(ML.to_owned()), &[input], attributes)
    }

    fn push<T: Element + ?Sized>(
        &mut self,
        op: &str,
        domain: Option<String>,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> Wire<T> {
        let name = self.fresh(op);
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: Some(name.clone()),
            op_type: Some(op.to_owned()),
            attribute,
            domain,
        });
        Wire::named(name)
    }

    /// A name no column can have: column names hold no slash.
    fn fresh(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}/{}", self.made)
    }
}

fn column<T: Element + ?Sized>(name: &str) -> ValueInfoProto {
    let rows = DimensionProto { dim_value: None, dim_param: Some("N".to_owned()) };
    let one = DimensionProto { dim_value: Some(1), dim_param: None };
    ValueInfoProto {
        name: Some(name.to_owned()),
        kind: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(T::DATA_TYPE),
                shape: Some(TensorShapeProto { dim: vec![rows, one] }),
            }),
        }),
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), kind: Some(kind), ..AttributeProto::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, attribute_type::INT) }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, attribute_type::INTS) }
}
