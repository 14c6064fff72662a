use prost::Message as _;

use super::proto::{AttributeProto, EXTERNAL, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};
use crate::BackendError;

/// Reads a model file and refuses one whose tensors live elsewhere: loading it would open paths the file chose.
pub(crate) fn check(bytes: &[u8]) -> Result<(), BackendError> {
    let model = ModelProto::decode(bytes).map_err(|error| BackendError::Malformed(error.to_string()))?;
    let graph = model.graph.as_ref().ok_or_else(|| BackendError::Malformed("it holds no graph".into()))?;
    check_graph(graph)?;
    for function in &model.functions {
        check_nodes(&function.node)?;
        check_attributes(&function.attribute_proto)?;
    }
    Ok(())
}

fn check_graph(graph: &GraphProto) -> Result<(), BackendError> {
    graph.initializer.iter().try_for_each(check_tensor)?;
    graph.sparse_initializer.iter().try_for_each(check_sparse)?;
    check_nodes(&graph.node)
}

fn check_nodes(nodes: &[NodeProto]) -> Result<(), BackendError> {
    nodes.iter().try_for_each(|node| check_attributes(&node.attribute))
}

fn check_attributes(attributes: &[AttributeProto]) -> Result<(), BackendError> {
    attributes.iter().try_for_each(|attribute| {
        attribute.t.iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
        attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).try_for_each(check_sparse)?;
        attribute.g.iter().chain(&attribute.graphs).try_for_each(check_graph)
    })
}

fn check_sparse(tensor: &SparseTensorProto) -> Result<(), BackendError> {
    tensor.values.iter().chain(&tensor.indices).try_for_each(check_tensor)
}

fn check_tensor(tensor: &TensorProto) -> Result<(), BackendError> {
    if tensor.data_location == Some(EXTERNAL) || !tensor.external_data.is_empty() {
        return Err(BackendError::ExternalData { tensor: tensor.name.clone().unwrap_or_default() });
    }
    Ok(())
}
