"""Registered models: versions, aliases, tags and stages."""

import tempfile
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from checks import check, holds, now_ms, pages, refused, same, unique

client = MlflowClient()
experiment = mlflow.set_experiment(unique("registry")).experiment_id


def files():
    """A run with a folder that could be a model: the folder's address and the run's id."""
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "weights", "model/data.txt")
    return f"{run.info.artifact_uri}/model", run.info.run_id


def model(versions=0, **more):
    name = unique("model")
    client.create_registered_model(name, **more)
    from_run = files() if versions else ()
    for _ in range(versions):
        client.create_model_version(name, *from_run)
    return name


@check
def a_model_comes_back_as_it_was_made():
    before = now_ms()
    name = model(tags={"team": "brook"}, description="what it does")
    found = client.get_registered_model(name)
    same((found.name, found.description, found.tags), (name, "what it does", {"team": "brook"}))
    same((found.latest_versions, found.aliases), ([], {}))
    holds(before - 60_000 <= found.creation_timestamp <= found.last_updated_timestamp, "times are set")
    with refused("RESOURCE_ALREADY_EXISTS"):
        client.create_registered_model(name)


@check
def names_that_are_no_names_are_refused():
    for name in ["", "a/b", "a:b"]:
        with refused("INVALID_PARAMETER_VALUE"):
            client.create_registered_model(name)


@check
def a_model_is_described_renamed_and_deleted():
    name, new = model(versions=2), unique("renamed")
    client.update_registered_model(name, "better")
    client.set_registered_model_alias(name, "best", 2)
    client.set_registered_model_tag(name, "k", "v")
    client.rename_registered_model(name, new)
    found = client.get_registered_model(new)
    same((found.description, found.aliases, found.tags), ("better", {"best": "2"}, {"k": "v"}))
    same(sorted(v.version for v in client.search_model_versions(f"name = '{new}'")), ["1", "2"])
    same(client.get_model_version_by_alias(new, "best").version, "2")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_registered_model(name)
    with refused("RESOURCE_ALREADY_EXISTS"):
        client.rename_registered_model(new, model())
    client.delete_registered_model(new)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_registered_model(new)
    same(list(client.search_model_versions(f"name = '{new}'")), [])


@check
def versions_are_numbered_and_know_where_they_came_from():
    name = model()
    source, run = files()
    first = client.create_model_version(name, source, run, tags={"a": "b"}, description="the first")
    second = client.create_model_version(name, source, run)
    same((first.version, second.version, first.status), ("1", "2", "READY"))
    found = client.get_model_version(name, "1")
    same((found.name, found.run_id, found.source, found.tags), (name, run, source, {"a": "b"}))
    same((found.description, found.current_stage, found.aliases), ("the first", "None", []))
    client.update_model_version(name, "1", "the very first")
    same(client.get_model_version(name, 1).description, "the very first")
    same(client.get_model_version_download_uri(name, "1"), source)
    same([v.version for v in client.get_registered_model(name).latest_versions], ["2"])


@check
def a_deleted_versions_number_is_not_given_while_a_higher_one_lives():
    name = model(versions=3)
    client.set_registered_model_alias(name, "two", 2)
    client.delete_model_version(name, "2")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_model_version(name, "2")
    same(client.get_registered_model(name).aliases, {})
    same(client.create_model_version(name, *files()).version, "4")


@check
def aliases_move_and_vanish():
    name = model(versions=2)
    client.set_registered_model_alias(name, "champion", 1)
    client.set_registered_model_alias(name, "Other_one-2", "1")
    same(sorted(client.get_model_version(name, "1").aliases), ["Other_one-2", "champion"])
    client.set_registered_model_alias(name, "champion", 2)
    same(client.get_registered_model(name).aliases, {"champion": "2", "Other_one-2": "1"})
    same(client.get_model_version_by_alias(name, "champion").version, "2")
    client.delete_registered_model_alias(name, "champion")
    client.delete_registered_model_alias(name, "champion")
    same(client.get_registered_model(name).aliases, {"Other_one-2": "1"})
    with refused("INVALID_PARAMETER_VALUE"):
        client.get_model_version_by_alias(name, "champion")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.set_registered_model_alias(name, "champion", 9)
    for alias in ["latest", "v12"]:
        with refused("INVALID_PARAMETER_VALUE"):
            client.set_registered_model_alias(name, alias, 1)


@check
def tags_of_models_and_versions():
    name = model(versions=1)
    client.set_registered_model_tag(name, "k", "1")
    client.set_registered_model_tag(name, "k", "2")
    client.set_model_version_tag(name, "1", "v", "x" * 10_000)
    same(client.get_registered_model(name).tags, {"k": "2"})
    same(client.get_model_version(name, "1").tags, {"v": "x" * 10_000})
    client.delete_registered_model_tag(name, "k")
    client.delete_model_version_tag(name, "1", "v")
    same((client.get_registered_model(name).tags, client.get_model_version(name, "1").tags), ({}, {}))


@check
def stages_move_and_archive():
    name = model(versions=3)
    client.transition_model_version_stage(name, "1", "production")
    client.transition_model_version_stage(name, "2", "Staging")
    same(client.get_model_version(name, "1").current_stage, "Production")
    client.transition_model_version_stage(name, "3", "Production", archive_existing_versions=True)
    same([client.get_model_version(name, n).current_stage for n in "123"], ["Archived", "Staging", "Production"])
    found = {v.current_stage: v.version for v in client.get_latest_versions(name, ["Production", "Staging"])}
    same(found, {"Production": "3", "Staging": "2"})
    with refused("INVALID_PARAMETER_VALUE"):
        client.transition_model_version_stage(name, "3", "Retired")


@check
def models_are_searched_ordered_and_paged():
    mark = unique("m")
    for part, size in [("Alpha", "big"), ("beta", "small"), ("gamma", "big")]:
        client.create_registered_model(f"{mark}-{part}", tags={"mark": mark, "size": size})

    def found(filter_string, order=("name ASC",)):
        hits = client.search_registered_models(filter_string, order_by=list(order))
        return [hit.name.removeprefix(f"{mark}-") for hit in hits]

    same(found(f"tags.mark = '{mark}'"), ["Alpha", "beta", "gamma"])
    same(found(f"name LIKE '{mark}-%a%' AND tags.size != 'big'"), ["beta"])
    same(found(f"name ILIKE '{mark}-ALPHA'"), ["Alpha"])
    same(found(f"name = '{mark}-beta'"), ["beta"])
    same(found(f"tags.mark = '{mark}'", ["name DESC"]), ["gamma", "beta", "Alpha"])
    same(found(f"tags.mark = '{mark}'", ["last_updated_timestamp DESC", "name ASC"])[0], "gamma")
    hits, sizes = pages(
        lambda t: client.search_registered_models(f"tags.mark = '{mark}'", max_results=2, order_by=["name ASC"], page_token=t)
    )
    same(([hit.name.removeprefix(f"{mark}-") for hit in hits], sizes), (["Alpha", "beta", "gamma"], [2, 1]))
    with refused("INVALID_PARAMETER_VALUE"):
        found("colour = 'red'")


@check
def versions_are_searched_ordered_and_paged():
    name, other = model(versions=3), model(versions=1)
    source, run = files()
    client.create_model_version(name, source, run, tags={"size": "big"})

    def found(filter_string, order=("version_number ASC",)):
        return [hit.version for hit in client.search_model_versions(filter_string, order_by=list(order))]

    mine = f"name = '{name}'"
    same(found(mine), ["1", "2", "3", "4"])
    same(found(mine, ["version_number DESC"]), ["4", "3", "2", "1"])
    same(found(mine, ["creation_timestamp DESC", "version_number DESC"]), ["4", "3", "2", "1"])
    same(found(f"{mine} AND run_id = '{run}'"), ["4"])
    same(found(f"run_id IN ('{run}', 'none')"), ["4"])
    same(found(f"source_path = '{source}'"), ["4"])
    same(found(f"{mine} AND version_number > 2"), ["3", "4"])
    same(found(f"{mine} AND tags.size = 'big'"), ["4"])
    same(found(f"name LIKE '{name[:-3]}%'"), ["1", "2", "3", "4"])
    same(found(f"name IN ('{name}', '{other}') AND version_number = 1"), ["1", "1"])
    hits, sizes = pages(lambda t: client.search_model_versions(mine, max_results=3, order_by=["version_number ASC"], page_token=t))
    same(([hit.version for hit in hits], sizes), (["1", "2", "3", "4"], [3, 1]))


@check
def a_folder_of_a_run_is_registered_by_its_address():
    name = model()
    _, run = files()
    version = client.create_model_version(name, f"runs:/{run}/model", run)
    same((version.version, version.run_id), ("1", run))
    holds(client.get_model_version_download_uri(name, "1").endswith("/model"), "it says where the files are")
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/1", dst_path=folder)
        same(Path(path, "data.txt").read_text(), "weights")


@check
def usual_mistakes_have_their_codes():
    name = model(versions=1)
    for code, call in [
        ("RESOURCE_DOES_NOT_EXIST", lambda: client.get_registered_model(unique("absent"))),
        ("RESOURCE_DOES_NOT_EXIST", lambda: client.update_registered_model(unique("absent"), "x")),
        ("RESOURCE_DOES_NOT_EXIST", lambda: client.delete_registered_model(unique("absent"))),
        ("RESOURCE_DOES_NOT_EXIST", lambda: client.get_model_version(name, "7")),
        ("RESOURCE_DOES_NOT_EXIST", lambda: client.delete_model_version(name, "7")),
        ("RESOURCE_DOES_NOT_EXIST", lambda: client.create_model_version(unique("absent"), *files())),
        ("RESOURCE_DOES_NOT_EXIST", lambda: client.get_model_version_download_uri(name, "7")),
        ("RESOURCE_DOES_NOT_EXIST", lambda: client.get_model_version_by_alias(unique("absent"), "a")),
        ("INVALID_PARAMETER_VALUE", lambda: client.create_model_version(name, files()[0])),
        ("INVALID_PARAMETER_VALUE", lambda: client.create_model_version(name, files()[0], files()[1])),
        ("INVALID_PARAMETER_VALUE", lambda: client.create_model_version(name, "/etc")),
        ("INVALID_PARAMETER_VALUE", lambda: client.create_model_version(name, "file:///etc")),
        ("INVALID_PARAMETER_VALUE", lambda: client.create_model_version(name, "mlflow-artifacts:/1/../../etc")),
        ("INVALID_PARAMETER_VALUE", lambda: client.search_model_versions("name LIKE 5")),
    ]:
        with refused(code):
            call()
