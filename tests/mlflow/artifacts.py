"""Artifacts: written, listed, read back and removed through the tracking server."""

import os
import tempfile
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from checks import check, holds, same, unique

client = MlflowClient()
experiment = mlflow.set_experiment(unique("artifacts")).experiment_id


def fresh():
    return client.create_run(experiment).info.run_id


def listed(run, path=None):
    # The client reads an empty file's size as none, as it does a folder's.
    return [(f.path, f.is_dir, f.file_size or None) for f in client.list_artifacts(run, path)]


def tree(folder):
    """Relative path -> bytes of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


@check
def a_file_comes_back_as_it_went():
    data = os.urandom(3_000_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "noise.bin")
        path.write_bytes(data)
        Path(folder, "empty").write_bytes(b"")
        with mlflow.start_run() as active:
            mlflow.log_artifact(path)
            mlflow.log_artifact(path, "deep/er")
            mlflow.log_artifact(Path(folder, "empty"))
    run = active.info.run_id
    same(listed(run), [("deep", True, None), ("empty", False, None), ("noise.bin", False, len(data))])
    with tempfile.TemporaryDirectory() as folder:
        for path in ["noise.bin", "deep/er/noise.bin"]:
            holds(Path(client.download_artifacts(run, path, folder)).read_bytes() == data, f"{path} is what was sent")
        same(Path(mlflow.artifacts.download_artifacts(run_id=run, artifact_path="empty", dst_path=folder)).read_bytes(), b"")


@check
def a_folder_keeps_its_shape():
    wanted = {"a.txt": b"a", "one/b.txt": b"b", "one/two/c.txt": b"c", "other/d": b"d" * 1000}
    run = fresh()
    with tempfile.TemporaryDirectory() as folder:
        for name, data in wanted.items():
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_bytes(data)
        client.log_artifacts(run, folder)
        client.log_artifacts(run, folder, "copy")
    same(listed(run), [("a.txt", False, 1), ("copy", True, None), ("one", True, None), ("other", True, None)])
    same(listed(run, "copy/one"), [("copy/one/b.txt", False, 1), ("copy/one/two", True, None)])
    same(listed(run, "copy/one/"), [("copy/one/b.txt", False, 1), ("copy/one/two", True, None)])
    with tempfile.TemporaryDirectory() as folder:
        same(tree(client.download_artifacts(run, "copy", folder)), wanted)
    with tempfile.TemporaryDirectory() as folder:
        whole = tree(mlflow.artifacts.download_artifacts(artifact_uri=f"runs:/{run}/", dst_path=folder))
        same(whole, wanted | {f"copy/{name}": data for name, data in wanted.items()})


@check
def nothing_is_listed_below_a_file_or_where_nothing_is():
    run = fresh()
    client.log_text(run, "x", "file.txt")
    same((listed(run, "file.txt"), listed(run, "absent"), listed(fresh())), ([], [], []))


@check
def texts_dicts_and_tables_are_read_back():
    with mlflow.start_run() as active:
        mlflow.log_text("première ligne\nsecond ✓", "notes/note.txt")
        mlflow.log_dict({"a": [1, 2.5, None], "b": {"c": "d"}}, "config.json")
        mlflow.log_dict({"a": [1, 2]}, "config.yaml")
        mlflow.log_table({"x": [1, 2], "y": ["a", "b"]}, "table.json")
        mlflow.log_table({"x": [3], "y": ["c"]}, "table.json")
    root = active.info.artifact_uri
    same(mlflow.artifacts.load_text(f"{root}/notes/note.txt"), "première ligne\nsecond ✓")
    same(mlflow.artifacts.load_dict(f"{root}/config.json"), {"a": [1, 2.5, None], "b": {"c": "d"}})
    same(mlflow.artifacts.load_text(f"runs:/{active.info.run_id}/config.yaml").split(), ["a:", "-", "1", "-", "2"])
    table = mlflow.load_table("table.json", run_ids=[active.info.run_id])
    holds(table.equals(pd.DataFrame({"x": [1, 2, 3], "y": ["a", "b", "c"]})), f"rows are added to a table: {table}")


@check
def a_file_written_again_is_the_new_one():
    run = fresh()
    for text in ["a long first text", "second"]:
        client.log_text(run, text, "f.txt")
    same(listed(run), [("f.txt", False, 6)])
    same(mlflow.artifacts.load_text(f"runs:/{run}/f.txt"), "second")


@check
def odd_names_survive():
    names = ["with space.txt", "größe/✓.txt", "100%.txt", "a+b&c=d.txt", "quote'd;.txt", ".hidden", "x" * 200]
    run = fresh()
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_text(name)
        client.log_artifacts(run, folder)
    flat = [name for name in names if "/" not in name]
    same(sorted(path for path, *_ in listed(run)), sorted([*flat, "größe"]))
    same([path for path, *_ in listed(run, "größe")], ["größe/✓.txt"])
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            same(Path(client.download_artifacts(run, name, folder)).read_text(), name)


@check
def a_large_file_goes_up_in_parts_where_the_server_takes_parts():
    # A bucket takes no smaller parts than 5 MiB, but for the last.
    wanted = os.urandom(11_000_000)
    forced = {
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
        "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1000000",
        "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * 2**20),
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
        "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE": "3000000",
    }
    os.environ.update(forced)
    try:
        run = fresh()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "large.bin")
            path.write_bytes(wanted)
            client.log_artifact(run, str(path), "in/parts")
            back = Path(folder, "back")
            back.mkdir()
            there = Path(client.download_artifacts(run, "in/parts/large.bin", back))
            holds(there.read_bytes() == wanted, "the parts come back in order")
    finally:
        for name in forced:
            del os.environ[name]
    same(listed(run, "in/parts"), [("in/parts/large.bin", False, len(wanted))])
    with tempfile.TemporaryDirectory() as folder:
        holds(Path(client.download_artifacts(run, "in/parts/large.bin", folder)).read_bytes() == wanted, "the parts are in order")


@check
def what_is_absent_cannot_be_downloaded():
    run = fresh()
    client.log_text(run, "x", "there.txt")
    for path in ["absent.txt", "absent/there.txt"]:
        try:
            client.download_artifacts(run, path)
        except MlflowException as error:
            holds("absent" in str(error) or error.error_code == "RESOURCE_DOES_NOT_EXIST", f"it says what: {error}")
        else:
            raise AssertionError(f"{path} was downloaded")


@check
def files_and_folders_are_deleted():
    run = fresh()
    for path in ["a.txt", "b/c.txt", "b/d/e.txt", "b2/f.txt"]:
        client.log_text(run, path, path)
    repository = get_artifact_repository(client.get_run(run).info.artifact_uri)
    repository.delete_artifacts("a.txt")
    repository.delete_artifacts("b")
    same(listed(run), [("b2", True, None)])
    same(mlflow.artifacts.load_text(f"runs:/{run}/b2/f.txt"), "b2/f.txt")


@check
def artifacts_of_an_experiment_with_its_own_place():
    name = unique("own-place")
    made = client.create_experiment(name, artifact_location=f"mlflow-artifacts:/own/{name}")
    run = client.create_run(made)
    client.log_text(run.info.run_id, "here", "f.txt")
    same(listed(run.info.run_id), [("f.txt", False, 4)])
    same(mlflow.artifacts.load_text(f"mlflow-artifacts:/own/{name}/{run.info.run_id}/artifacts/f.txt"), "here")
