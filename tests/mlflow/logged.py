"""Logged models: what MLflow 3 keeps of a model before, or without, it being registered."""

import tempfile
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from checks import check, holds, pages, refused, same, unique

client = MlflowClient()
experiment = mlflow.set_experiment(unique("logged")).experiment_id


def ids(found):
    return [model.model_id for model in found]


def search(where, **more):
    return mlflow.search_logged_models([where], output_format="list", **more)


@check
def a_model_begins_pending_and_becomes_ready():
    made = client.create_logged_model(experiment, name="net", params={"depth": "3"}, tags={"a": "b"}, model_type="Agent")
    holds(made.model_id.startswith("m-") and len(made.model_id) == 34, f"{made.model_id} is m- and 32 hex digits")
    same((made.name, made.status, made.model_type), ("net", LoggedModelStatus.PENDING, "Agent"))
    same(made.artifact_location, f"mlflow-artifacts:/{experiment}/models/{made.model_id}/artifacts")
    client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    found = client.get_logged_model(made.model_id)
    same((found.status, found.params, found.experiment_id), (LoggedModelStatus.READY, {"depth": "3"}, experiment))
    same({key: value for key, value in found.tags.items() if not key.startswith("mlflow.")}, {"a": "b"})


@check
def a_failed_upload_is_said():
    made = client.create_logged_model(experiment)
    holds(made.name, "a name was made")
    client.finalize_logged_model(made.model_id, LoggedModelStatus.FAILED)
    same(client.get_logged_model(made.model_id).status, LoggedModelStatus.FAILED)


@check
def many_parameters_are_kept():
    params = {f"p{n}": str(n) for n in range(250)}
    made = client.create_logged_model(experiment, params=params)
    same(client.get_logged_model(made.model_id).params, params)


@check
def tags_of_logged_models():
    made = client.create_logged_model(experiment)
    client.set_logged_model_tags(made.model_id, {"k": "1", "l": "2"})
    client.set_logged_model_tags(made.model_id, {"k": "3"})
    found = client.get_logged_model(made.model_id).tags
    same((found["k"], found["l"]), ("3", "2"))
    client.delete_logged_model_tag(made.model_id, "k")
    holds("k" not in client.get_logged_model(made.model_id).tags, "it is gone")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_logged_model_tag(made.model_id, "k")


@check
def a_deleted_model_is_not_found():
    made = client.create_logged_model(experiment)
    client.delete_logged_model(made.model_id)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_logged_model(made.model_id)
    holds(made.model_id not in ids(search(experiment)), "nor is it listed")


@check
def metrics_of_a_model_are_its_own_and_its_runs():
    data = mlflow.data.from_numpy(np.arange(4), name="held-out")
    with mlflow.start_run() as active:
        made = mlflow.initialize_logged_model(name="measured")
        mlflow.log_metric("loss", 0.5, step=1, model_id=made.model_id)
        mlflow.log_metrics({"loss": 0.25, "auc": 0.75}, step=2, model_id=made.model_id, dataset=data)
        mlflow.finalize_logged_model(made.model_id, "READY")
    found = client.get_logged_model(made.model_id)
    same(found.source_run_id, active.info.run_id)
    same(sorted((m.key, m.value, m.step) for m in found.metrics), [("auc", 0.75, 2), ("loss", 0.25, 2), ("loss", 0.5, 1)])
    same({(m.run_id, m.dataset_name) for m in found.metrics if m.step == 2}, {(active.info.run_id, "held-out")})
    same(client.get_run(active.info.run_id).data.metrics, {"loss": 0.25, "auc": 0.75})


@check
def files_of_a_model_are_listed():
    made = client.create_logged_model(experiment)
    repository = get_artifact_repository(made.artifact_location)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.txt")
        path.write_text("0 1 2")
        repository.log_artifact(str(path))
        repository.log_artifact(str(path), "data")
    same([(f.path, f.is_dir) for f in client.list_logged_model_artifacts(made.model_id)], [("data", True), ("weights.txt", False)])
    same([f.path for f in client.list_logged_model_artifacts(made.model_id, "data")], ["data/weights.txt"])
    same(mlflow.artifacts.load_text(f"{made.artifact_location}/data/weights.txt"), "0 1 2")


@check
def models_are_searched_ordered_and_paged():
    place = client.create_experiment(unique("searched"))
    made = []
    for n, (loss, kind) in enumerate([(0.5, "a"), (0.25, "b"), (None, "a"), (0.125, "a")]):
        run = client.create_run(place).info.run_id
        model = client.create_logged_model(place, name=f"n{n}", source_run_id=run, params={"kind": kind}, tags={"n": str(n)})
        if loss is not None:
            client.log_metric(run, "loss", loss, model_id=model.model_id)
        client.finalize_logged_model(model.model_id, "READY")
        made.append(model)

    def names(filter_string=None, order=None):
        return " ".join(model.name for model in search(place, filter_string=filter_string, order_by=order))

    by_time = [{"field_name": "creation_timestamp", "ascending": True}]
    by_loss = [{"field_name": "metrics.loss", "ascending": True}]
    same(names(order=by_time), "n0 n1 n2 n3")
    same(names(order=by_loss), "n3 n1 n0 n2")
    same(names(order=[{"field_name": "metrics.loss", "ascending": False}]), "n0 n1 n3 n2")
    same(names("params.kind = 'a'", by_time), "n0 n2 n3")
    same(names("metrics.loss < 0.4", by_loss), "n3 n1")
    same(names("tags.n = '2'"), "n2")
    same(names("name = 'n1' AND params.kind != 'a'"), "n1")
    same(names(f"source_run_id = '{made[3].source_run_id}'"), "n3")
    same(names(f"model_id IN ('{made[0].model_id}', '{made[2].model_id}')", by_time), "n0 n2")
    same(names("creation_timestamp > 0 AND name LIKE 'n%'", by_time), "n0 n1 n2 n3")
    found, sizes = pages(lambda t: client.search_logged_models([place], order_by=by_loss, max_results=3, page_token=t))
    same(([model.name for model in found], sizes), (["n3", "n1", "n0", "n2"], [3, 1]))
    table = mlflow.search_logged_models([place], order_by=by_time)
    same(list(table["name"]), ["n0", "n1", "n2", "n3"])


@check
def a_search_may_look_at_one_dataset_only():
    place = client.create_experiment(unique("by-data"))
    first, second = (mlflow.data.from_numpy(np.arange(n), name=f"d{n}") for n in (3, 5))
    run = client.create_run(place).info.run_id
    model = client.create_logged_model(place, name="m", source_run_id=run)
    for data, value in [(first, 0.9), (second, 0.1)]:
        client.log_metric(run, "loss", value, model_id=model.model_id, dataset_name=data.name, dataset_digest=data.digest)

    def found(clause, data):
        wanted = [{"dataset_name": data.name, "dataset_digest": data.digest}]
        return [m.name for m in client.search_logged_models([place], filter_string=clause, datasets=wanted)]

    same((found("metrics.loss < 0.5", first), found("metrics.loss < 0.5", second)), ([], ["m"]))


@check
def an_output_of_a_run_is_seen_on_the_run():
    with mlflow.start_run() as active:
        made = mlflow.initialize_logged_model(name="made here")
        mlflow.finalize_logged_model(made.model_id, "READY")
        mlflow.log_outputs(models=[LoggedModelOutput(made.model_id, 3)])
    outputs = client.get_run(active.info.run_id).outputs.model_outputs
    same([(output.model_id, output.step) for output in outputs], [(made.model_id, 3)])
    user = client.create_run(experiment).info.run_id
    client.log_inputs(user, models=[LoggedModelInput(made.model_id)])
    same([i.model_id for i in client.get_run(user).inputs.model_inputs], [made.model_id])
