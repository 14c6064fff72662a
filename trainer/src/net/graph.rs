use backends::{
    OUTPUT,
    onnx::{GraphBuilder, Wire},
};
use candle_core::{Tensor, Var};
use domain::definition::Learner;

use super::Net;
use crate::{
    TrainerError,
    prep::{Prepared, Preprocessor},
};

impl Net {
    /// The model file: raw columns in, probability out.
    pub(crate) fn to_onnx(&self, name: &str, prep: &Preprocessor) -> Result<Vec<u8>, TrainerError> {
        let mut graph = GraphBuilder::new(name);
        let prepared = prep.write_onnx(&mut graph);
        let logit = self.write_onnx(&mut graph, prepared).map_err(TrainerError::candle("write the weights"))?;
        let probability = graph.sigmoid(&logit);
        graph.output(OUTPUT, &probability);
        Ok(graph.finish())
    }

    fn write_onnx(&self, graph: &mut GraphBuilder, prepared: Prepared) -> candle_core::Result<Wire<f32>> {
        let mut vectors = Vec::new();
        for (table, numbers) in self.tables.iter().zip(&prepared.categories) {
            let table = constant(graph, table)?;
            vectors.push(graph.gather(&table, numbers, 0));
        }
        if self.learner == Learner::Mlp {
            let parts: Vec<_> = prepared.dense.into_iter().chain(vectors).collect();
            let mut x = graph.concat(&parts);
            for (at, layer) in self.layers.iter().enumerate() {
                let weight = layer.weight.as_ref().expect("every layer of a perceptron has inputs");
                let (weight, bias) = (constant(graph, weight)?, constant(graph, &layer.bias)?);
                x = graph.gemm(&x, &weight, &bias);
                if at + 1 < self.layers.len() {
                    x = graph.relu(&x);
                }
            }
            return Ok(x);
        }
        let layer = &self.layers[0];
        let bias = constant(graph, &layer.bias)?;
        let mut sum = match (&layer.weight, &prepared.dense) {
            (Some(weight), Some(dense)) => {
                let weight = constant(graph, weight)?;
                graph.gemm(dense, &weight, &bias)
            }
            _ => bias,
        };
        for vector in &vectors {
            sum = graph.add(&sum, vector);
        }
        Ok(sum)
    }
}

fn constant(graph: &mut GraphBuilder, var: &Var) -> candle_core::Result<Wire<f32>> {
    let values = Tensor::flatten_all(var)?.to_vec1::<f32>()?;
    Ok(graph.floats(var.dims(), &values))
}
