"""A store that MLflow's own client writes, and the comparison of what its client finds there and at the server."""

import math
import os
import sqlite3
import sys
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

X = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
Y = [0, 0, 1, 1]


def address(folder):
    return f"sqlite:///{folder}/mlflow.db"


def make(folder):
    # Without a server, artifacts go below the working directory.
    os.chdir(folder)
    mlflow.set_tracking_uri(address(folder))
    client = MlflowClient()
    fitted = LogisticRegression().fit(X, Y)

    mlflow.set_experiment("iris")
    client.set_experiment_tag(client.get_experiment_by_name("iris").experiment_id, "team", "ponds")
    with mlflow.start_run(run_name="first", tags={"x": "1", "mlflow.note.content": "a\nnote"}) as first:
        mlflow.log_params({"rate": "0.1", "long": "v" * 6000})
        for step, value in enumerate([0.5, math.nan, math.inf, -math.inf, 0.25]):
            mlflow.log_metric("loss", value, step=step)
        mlflow.log_metric("loss", 0.2, step=4)
        mlflow.log_metric("negative", 1.0, step=-3)
        mlflow.log_input(mlflow.data.from_pandas(X, name="table"), context="training", tags={"split": "a"})
        mlflow.log_text("ducks", "notes/ducks.txt")
        mlflow.log_text("", "empty")
        mlflow.log_text("ü", "Ünïcode/a b.txt")
        mlflow.sklearn.log_model(
            fitted,
            name="classifier",
            registered_model_name="iris",
            signature=infer_signature(X, fitted.predict(X)),
            pip_requirements=["scikit-learn"],
        )
        mlflow.log_text("weights", "plain/weights.txt")
    with mlflow.start_run(run_name="many") as many:
        points = [Metric("curve", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(12_000)]
        for start in range(0, len(points), 1_000):
            client.log_batch(many.info.run_id, points[start : start + 1_000])
        client.log_batch(many.info.run_id, [], [Param("p", "q")], [RunTag("t", "u")])
    source = f"{first.info.artifact_uri}/plain"
    for number in [2, 3]:
        client.create_model_version("iris", source, first.info.run_id, tags={"n": str(number)}, description="plain")
    client.delete_model_version("iris", "2")
    client.transition_model_version_stage("iris", "3", "Staging")
    client.set_registered_model_alias("iris", "champion", "1")
    client.set_registered_model_tag("iris", "owner", "ada")
    client.update_registered_model("iris", "flowers")
    with mlflow.start_run(run_name="failed", nested=True) as failed:
        pass
    client.set_terminated(failed.info.run_id, "FAILED")
    with mlflow.start_run(run_name="gone") as gone:
        mlflow.log_text("of a deleted run", "kept.txt")
        mlflow.log_metric("m", 1.0)
    client.delete_run(gone.info.run_id)
    other = client.create_experiment("other")
    client.create_run(other, run_name="of a deleted experiment")
    client.delete_experiment(other)


def files(client, run):
    found = {}

    def walk(path):
        for entry in client.list_artifacts(run, path):
            if entry.is_dir:
                walk(entry.path)
            else:
                local = client.download_artifacts(run, entry.path)
                found[entry.path] = (entry.file_size, Path(local).read_bytes())

    walk("")
    return found


def plain(entity):
    return sorted((key, str(value)) for key, value in dict(entity).items())


def seen(uri):
    """Everything a client finds, without where it lies."""
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    world = {}
    experiments = sorted(client.search_experiments(ViewType.ALL), key=lambda e: int(e.experiment_id))
    for experiment in experiments:
        world["experiment", experiment.experiment_id] = [
            (experiment.name, experiment.lifecycle_stage, sorted(experiment.tags.items())),
            experiment.creation_time if experiment.experiment_id != "0" else None,
        ]
    ids = [experiment.experiment_id for experiment in experiments]
    for run in client.search_runs(ids, run_view_type=ViewType.ALL, max_results=1_000):
        info = {key: value for key, value in dict(run.info).items() if key not in ("artifact_uri", "user_id")}
        key = run.info.run_id
        world["run", key] = plain(info)
        world["params", key] = sorted(run.data.params.items())
        world["tags", key] = sorted((k, v) for k, v in run.data.tags.items() if k != "mlflow.user")
        world["metrics", key] = sorted((k, str(v)) for k, v in run.data.metrics.items())
        world["inputs", key] = [
            (plain(i.dataset), sorted((t.key, t.value) for t in i.tags)) for i in run.inputs.dataset_inputs
        ]
        world["made", key] = [(m.model_id, m.step) for m in run.outputs.model_outputs] if run.outputs else []
        for metric in run.data.metrics:
            history = client.get_metric_history(key, metric)
            world["history", key, metric] = sorted((m.step, m.timestamp, str(m.value)) for m in history)
        if run.info.lifecycle_stage == "active":
            world["files", key] = files(client, key)
    for model in mlflow.search_logged_models(experiment_ids=[i for i in ids if i != "2"], output_format="list"):
        tags = sorted((k, v) for k, v in model.tags.items() if k not in ("mlflow.user", "mlflow.modelVersions"))
        world["logged model", model.model_id] = [
            (model.name, str(model.status), model.source_run_id, model.creation_timestamp, sorted(model.params.items())),
            tags,
        ]
    for model in client.search_registered_models():
        world["model", model.name] = [
            (model.description, sorted(model.tags.items()), sorted((a, str(v)) for a, v in model.aliases.items()), model.creation_timestamp)
        ]
    for version in client.search_model_versions():
        world["version", version.name, str(version.version)] = [
            (version.description, version.current_stage, version.run_id, version.status, version.creation_timestamp),
            sorted(version.tags.items()),
        ]
        local = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{version.name}/{version.version}")
        local = Path(local)
        world["version files", version.name, str(version.version)] = {
            str(path.relative_to(local)): path.read_bytes()
            for path in local.rglob("*")
            if path.is_file() and path.name != "registered_model_meta"
        }
    return world


def compare(folder):
    here = os.environ["MLFLOW_TRACKING_URI"]
    os.chdir(folder)
    there, here_seen = seen(address(folder)), seen(here)
    assert there.keys() == here_seen.keys(), sorted(map(str, there.keys() ^ here_seen.keys()))
    for key, wanted in there.items():
        assert here_seen[key] == wanted, f"{key}:\n{str(wanted)[:2000]}\n{str(here_seen[key])[:2000]}"
    mlflow.set_tracking_uri(here)
    loaded = mlflow.pyfunc.load_model("models:/iris@champion")
    assert list(loaded.predict(X)) == list(LogisticRegression().fit(X, Y).predict(X))
    print(len(there))


def dump(folder):
    """The tables as statements for Postgres, with the types that MLflow gives their columns there."""
    source = sqlite3.connect(folder / "mlflow.db")
    tables = [name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    out = []
    for table in tables:
        columns = [(name, kind) for _, name, kind, *_ in source.execute(f"PRAGMA table_info({table})")]
        if not any(part in table for part in ["experiment", "run", "metric", "param", "tag", "input", "dataset", "model"]):
            continue
        kinds = [(name, "DOUBLE PRECISION" if kind == "FLOAT" else kind) for name, kind in columns]
        if any(kind == "JSON" or "BLOB" in kind for _, kind in kinds):
            continue
        out.append(f"CREATE TABLE {table} ({', '.join(f'{chr(34)}{n}{chr(34)} {k}' for n, k in kinds)});")

        def literal(value, kind):
            if value is None:
                return "NULL"
            if kind == "BOOLEAN":
                return "TRUE" if value else "FALSE"
            return repr(value) if isinstance(value, (int, float)) else "'" + value.replace("'", "''") + "'"

        for row in source.execute(f"SELECT * FROM {table}"):
            values = ", ".join(literal(value, kind) for value, (_, kind) in zip(row, kinds))
            out.append(f"INSERT INTO {table} VALUES ({values});")
    (folder / "postgres.sql").write_text("\n".join(out))


if __name__ == "__main__":
    {"make": make, "dump": dump, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
