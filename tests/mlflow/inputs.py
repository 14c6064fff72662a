"""Datasets that runs were given."""

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient

from checks import check, holds, same, unique

client = MlflowClient()
experiment = mlflow.set_experiment(unique("inputs")).experiment_id

TABLE = pd.DataFrame({"x": [1.0, 2.0, 3.0], "kind": ["a", "b", "a"], "y": [0, 1, 0]})


@check
def a_table_is_remembered_with_its_schema_and_digest():
    data = mlflow.data.from_pandas(TABLE, source="https://example.org/table.csv", name="table", targets="y")
    with mlflow.start_run() as active:
        mlflow.log_input(data, context="training", tags={"half": "first"})
        mlflow.log_input(data, context="training", tags={"half": "first"})
    run = client.get_run(active.info.run_id)
    same(len(run.inputs.dataset_inputs), 1)
    found = run.inputs.dataset_inputs[0]
    same((found.dataset.name, found.dataset.digest), ("table", data.digest))
    same({tag.key: tag.value for tag in found.tags}, {"mlflow.data.context": "training", "half": "first"})
    source = mlflow.data.get_source(found)
    same(source.to_dict()["url"], "https://example.org/table.csv")
    holds("mlflow_colspec" in found.dataset.schema and "num_rows" in found.dataset.profile, "schema and profile are kept")


@check
def arrays_and_several_contexts_are_remembered():
    train = mlflow.data.from_numpy(np.arange(12).reshape(4, 3), targets=np.arange(4), name="train")
    test = mlflow.data.from_numpy(np.arange(6).reshape(2, 3), name="test")
    with mlflow.start_run() as active:
        mlflow.log_inputs(datasets=[train, test], contexts=["training", "testing"], tags_list=[None, None])
    inputs = client.get_run(active.info.run_id).inputs.dataset_inputs
    found = {i.dataset.name: next(t.value for t in i.tags if t.key == "mlflow.data.context") for i in inputs}
    same(found, {"train": "training", "test": "testing"})


@check
def runs_are_found_by_their_dataset():
    data = mlflow.data.from_pandas(TABLE, name=unique("looked-for"))
    with mlflow.start_run() as active:
        mlflow.log_input(data, context="validation")
    for clause in [
        f"dataset.name = '{data.name}'",
        f"datasets.name LIKE '{data.name[:-2]}%' AND dataset.context = 'validation'",
        f"dataset.digest = '{data.digest}' AND dataset.name IN ('{data.name}', 'none')",
    ]:
        found = client.search_runs([experiment], clause)
        same([run.info.run_id for run in found], [active.info.run_id], clause)
    same(len(client.search_runs([experiment], f"dataset.name = '{data.name}' AND dataset.context = 'training'")), 0)


@check
def metrics_may_belong_to_a_dataset():
    data = mlflow.data.from_pandas(TABLE, name="measured")
    with mlflow.start_run() as active:
        mlflow.log_metric("auc", 0.5, dataset=data)
    same(client.get_run(active.info.run_id).data.metrics, {"auc": 0.5})
