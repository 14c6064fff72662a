"""Experiments: made, found, renamed, tagged, deleted and brought back."""

import mlflow
from mlflow import MlflowClient
from mlflow.entities import ViewType

from checks import check, holds, now_ms, pages, refused, same, unique

client = MlflowClient()


@check
def the_default_experiment_is_there():
    default = client.get_experiment("0")
    same((default.name, default.lifecycle_stage), ("Default", "active"))
    same(client.get_experiment_by_name("Default").experiment_id, "0")


@check
def an_experiment_comes_back_as_it_was_made():
    name, before = unique("made"), now_ms()
    made = client.create_experiment(name, tags={"team": "brook", "a b": "c"})
    found = client.get_experiment(made)
    same((found.experiment_id, found.name, found.lifecycle_stage), (made, name, "active"))
    same(found.tags, {"team": "brook", "a b": "c"})
    same(found.artifact_location, f"mlflow-artifacts:/{made}")
    holds(before - 60_000 <= found.creation_time <= now_ms() + 60_000, f"made at {found.creation_time}, not now")
    holds(found.last_update_time >= found.creation_time, "updated before it was made")
    same(client.get_experiment_by_name(name).experiment_id, made)


@check
def an_experiment_keeps_the_artifact_location_it_was_given():
    name = unique("placed")
    made = client.create_experiment(name, artifact_location=f"mlflow-artifacts:/placed/{name}")
    same(client.get_experiment(made).artifact_location, f"mlflow-artifacts:/placed/{name}")
    run = client.create_run(made)
    same(run.info.artifact_uri, f"mlflow-artifacts:/placed/{name}/{run.info.run_id}/artifacts")


@check
def a_name_that_does_not_exist_is_none_and_an_id_an_error():
    same(client.get_experiment_by_name(unique("absent")), None)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_experiment("987654321")


@check
def a_name_is_taken_once_even_by_a_deleted_experiment():
    name = unique("taken")
    made = client.create_experiment(name)
    with refused("RESOURCE_ALREADY_EXISTS"):
        client.create_experiment(name)
    client.delete_experiment(made)
    with refused("RESOURCE_ALREADY_EXISTS"):
        client.create_experiment(name)


@check
def a_renamed_experiment_is_found_by_its_new_name_only():
    old, new = unique("old"), unique("new")
    made = client.create_experiment(old)
    client.rename_experiment(made, new)
    same(client.get_experiment(made).name, new)
    same(client.get_experiment_by_name(new).experiment_id, made)
    same(client.get_experiment_by_name(old), None)


@check
def deleting_and_restoring_takes_the_runs_along():
    made = client.create_experiment(unique("bin"))
    run = client.create_run(made).info.run_id
    client.delete_experiment(made)
    same(client.get_experiment(made).lifecycle_stage, "deleted")
    same(client.get_run(run).info.lifecycle_stage, "deleted")
    with refused("INVALID_PARAMETER_VALUE", "INVALID_STATE"):
        client.create_run(made)
    client.restore_experiment(made)
    same(client.get_experiment(made).lifecycle_stage, "active")
    same(client.get_run(run).info.lifecycle_stage, "active")
    client.create_run(made)


@check
def tags_of_experiments_are_set_changed_and_removed():
    made = client.create_experiment(unique("tagged"))
    client.set_experiment_tag(made, "owner", "ada")
    client.set_experiment_tag(made, "owner", "grace")
    client.set_experiment_tag(made, "note", "line one\nline two ✓")
    same(client.get_experiment(made).tags, {"owner": "grace", "note": "line one\nline two ✓"})
    client.delete_experiment_tag(made, "owner")
    same(client.get_experiment(made).tags, {"note": "line one\nline two ✓"})


@check
def experiments_are_searched_by_name_tag_and_stage():
    mark = unique("s")
    ids = {
        part: client.create_experiment(f"{mark}/{part}", tags={"mark": mark, "size": size})
        for part, size in [("Alpha", "big"), ("beta", "small"), ("gamma", "big")]
    }
    client.delete_experiment(ids["gamma"])

    def found(filter_string, view=ViewType.ACTIVE_ONLY, order=("name ASC",)):
        hits = client.search_experiments(view_type=view, filter_string=filter_string, order_by=list(order))
        return [hit.name.removeprefix(f"{mark}/") for hit in hits]

    mine = f"tags.mark = '{mark}'"
    same(found(mine), ["Alpha", "beta"])
    same(found(mine, ViewType.DELETED_ONLY), ["gamma"])
    same(found(mine, ViewType.ALL), ["Alpha", "beta", "gamma"])
    same(found(mine, order=["name DESC"]), ["beta", "Alpha"])
    same(found(mine, order=["creation_time DESC"]), ["beta", "Alpha"])
    same(found(f"name = '{mark}/beta'"), ["beta"])
    same(found(f"name LIKE '{mark}/%a'"), ["Alpha", "beta"])
    same(found(f"name LIKE '{mark}/a%'"), [])
    same(found(f"name ILIKE '{mark}/ALP%'"), ["Alpha"])
    same(found(f"{mine} AND tags.size != 'big'"), ["beta"])
    same(found(f"{mine} AND tag.`size` = 'big'"), ["Alpha"])
    same(found(f"{mine} AND creation_time > 0"), ["Alpha", "beta"])
    same(found(f"{mine} AND last_update_time < 1000"), [])
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_experiments(filter_string="colour = 'red'")


@check
def experiments_are_listed_page_by_page():
    mark = unique("p")
    wanted = [client.create_experiment(f"{mark}-{n}") for n in range(7)]
    found, sizes = pages(
        lambda token: client.search_experiments(
            filter_string=f"name LIKE '{mark}-%'", order_by=["experiment_id ASC"], max_results=3, page_token=token
        )
    )
    same([hit.experiment_id for hit in found], wanted)
    same(sizes, [3, 3, 1])
    holds(len(mlflow.search_experiments(filter_string=f"name LIKE '{mark}-%'")) == 7, "the fluent search finds all")
