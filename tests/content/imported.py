"""Models as other tools write them, made here and, once they were imported, loaded by MLflow's unmodified client."""

import filecmp
import json
import sys
from pathlib import Path

import joblib
import mlflow
import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

X = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
Y = [0, 0, 1, 1]


def linear(external):
    weights = numpy_helper.from_array(np.array([[2.0], [-1.0]], dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def make(folder):
    onnx.save(linear(False), folder / "linear.bin")
    beside = folder / "beside"
    beside.mkdir()
    onnx.save(
        linear(True), beside / "net", save_as_external_data=True, location="net.weights", size_threshold=0
    )
    fitted = LogisticRegression().fit(X, Y)
    joblib.dump(fitted, folder / "fitted.bin")
    mlflow.sklearn.save_model(fitted, folder / "directory", pip_requirements=["scikit-learn"])


def check(folder):
    wanted = X.to_numpy() @ np.array([[2.0], [-1.0]])
    for name in ["linear", "beside"]:
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
        got = loaded.predict(X.to_numpy().astype(np.float32))
        got = np.asarray(got["y"] if isinstance(got, dict) else got)
        assert np.allclose(got.reshape(-1), wanted.reshape(-1)), (name, got)
        signature = json.loads(loaded.metadata.signature.inputs.to_json())
        assert signature[0]["name"] == "x" and signature[0]["tensor-spec"]["shape"] == [-1, 2], signature
    files = mlflow.artifacts.download_artifacts(artifact_uri="models:/fitted/1", dst_path=str(folder / "got"))
    assert filecmp.cmp(Path(files) / "model.pkl", folder / "fitted.bin", shallow=False)
    loaded = mlflow.pyfunc.load_model("models:/directory/1")
    assert list(loaded.predict(X)) == list(LogisticRegression().fit(X, Y).predict(X))
    version = mlflow.MlflowClient().get_model_version("linear", "1")
    assert version.tags == {"from": "elsewhere"} and version.description == "by hand", version
    print("ok")


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
