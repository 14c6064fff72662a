"""A model that Millpond's own pipeline trained, seen with MLflow's client.

    MLFLOW_TRACKING_URI=... python tests/mlflow/pipeline.py WORLD.json

The file says what the server's own API tells: `experiment`, `model`, `run` (id, params, metrics), `version`, and `rows`
with the inputs of predictions (by column) and their `probabilities`.
"""

import json
import os
import sys

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient

from checks import CHECKS, check, holds, near, same

world = {}
client = MlflowClient()


def address(which):
    return f"models:/{world['model']}{which}"


@check
def the_experiment_and_its_run_are_found():
    experiment = client.get_experiment_by_name(world["experiment"])
    holds(experiment is not None, f"experiment {world['experiment']} is found by name")
    found = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
    holds(world["run"]["id"] in [run.info.run_id for run in found], "the run is among the finished ones")


@check
def the_run_has_its_parameters_and_metrics():
    run = client.get_run(world["run"]["id"])
    same(run.data.params, world["run"]["params"], "parameters")
    holds(len(run.data.metrics) > 3, f"metrics: {run.data.metrics}")
    same(run.data.metrics, world["run"]["metrics"], "metrics")
    holds(0 < run.info.start_time <= run.info.end_time, "it began before it ended")


@check
def every_metric_has_a_history():
    for key, value in client.get_run(world["run"]["id"]).data.metrics.items():
        points = client.get_metric_history(world["run"]["id"], key)
        same(max(points, key=lambda p: (p.step, p.timestamp, p.value)).value, value, key)


@check
def the_data_it_learned_from_is_an_input():
    inputs = client.get_run(world["run"]["id"]).inputs.dataset_inputs
    same(len(inputs), 1, "number of datasets")
    holds(inputs[0].dataset.name and inputs[0].dataset.digest, f"it has a name and a digest: {inputs[0].dataset}")
    holds(world["dataset"].startswith(inputs[0].dataset.digest), f"{inputs[0].dataset.digest} is of {world['dataset']}")


@check
def the_version_and_its_alias_are_found():
    version = client.get_model_version(world["model"], str(world["version"]))
    same((version.run_id, version.status), (world["run"]["id"], "READY"))
    holds("champion" in version.aliases, f"aliases: {version.aliases}")
    same(client.get_model_version_by_alias(world["model"], "champion").version, str(world["version"]))
    same([v.version for v in client.search_model_versions(f"name = '{world['model']}'")], [str(world["version"])])
    holds(world["model"] in [model.name for model in client.search_registered_models()], "the model is listed")


@check
def its_files_can_be_listed_and_read():
    folder = mlflow.artifacts.download_artifacts(artifact_uri=address("@champion"))
    names = {"MLmodel", "model.onnx", "reference.json"}
    holds(names <= set(os.listdir(folder)), f"{names} are in {folder}")


@check
def it_predicts_what_the_endpoint_predicts():
    table = pd.DataFrame(world["rows"])
    for which in ["@champion", f"/{world['version']}", "/latest"]:
        loaded = mlflow.pyfunc.load_model(address(which))
        found = np.asarray(loaded.predict(table)["probability"], dtype=float).reshape(-1)
        near(found, world["probabilities"], 1e-5, address(which))
    raw = mlflow.onnx.load_model(address("@champion"))
    holds({i.name for i in raw.graph.input} <= set(table.columns), f"its inputs: {[i.name for i in raw.graph.input]}")


def main(path):
    import run

    with open(path, encoding="utf-8") as file:
        world.update(json.load(file))
    failed = [name for name in map(run.holds, CHECKS) if name]
    print(f"{len(CHECKS) - len(failed)} ok, {len(failed)} failed", flush=True)
    if failed:
        sys.exit("failed:\n  " + "\n  ".join(failed))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
