"""Searching runs: every kind of clause, order and page over a small set that is known by heart."""

import math

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, ViewType

from checks import check, holds, pages, refused, same, unique

client = MlflowClient()

# name, loss, auc, depth, kind, owner, status; None means absent
KNOWN = [
    ("r0", 0.9, 0.5, "1", "tree", "ada", "FINISHED"),
    ("r1", 0.8, None, "2", "tree", "grace", "FINISHED"),
    ("r2", 0.7, 0.7, "3", "Forest", "ada", "FAILED"),
    ("r3", 0.6, math.nan, "10", "forest", None, "FINISHED"),
    ("r4", 0.5, 0.9, None, "linear", "O'Hara", "KILLED"),
    ("r5", 0.4, 0.6, "4", None, "a_b", "RUNNING"),
    ("r6", -1.5, math.inf, "5", "100%", "axb", "SCHEDULED"),
]
START = 1_700_000_000_000


def fill():
    experiment = client.create_experiment(unique("search"))
    for place, (name, loss, auc, depth, kind, owner, status) in enumerate(KNOWN):
        tags = {"owner": owner, "odd key": name} if owner else {"odd key": name}
        run = client.create_run(experiment, run_name=name, start_time=START + place, tags=tags).info.run_id
        metrics = [Metric("loss", loss, 1, 1), Metric("val loss", loss / 2, 1, 1)]
        if auc is not None:
            metrics.append(Metric("auc", auc, 1, 1))
        params = [Param(key, value) for key, value in [("depth", depth), ("kind", kind)] if value is not None]
        client.log_batch(run, metrics=metrics, params=params)
        if status in ("RUNNING", "SCHEDULED"):
            client.update_run(run, status=status)
        else:
            client.set_terminated(run, status=status, end_time=START + 1000 * place)
    deleted = client.create_run(experiment, run_name="gone", start_time=START - 1).info.run_id
    client.delete_run(deleted)
    return experiment


experiment = fill()


def names(filter_string="", order=("start_time ASC",), view=ViewType.ACTIVE_ONLY, limit=1000):
    found = client.search_runs([experiment], filter_string, view, limit, list(order))
    return " ".join(run.info.run_name for run in found)


def each(table):
    for clause, wanted in table.items():
        same(names(clause), wanted, clause)


@check
def filters_on_metrics():
    each({
        "metrics.loss < 0.6": "r4 r5 r6",
        "metric.loss <= 0.6": "r3 r4 r5 r6",
        "metrics.loss > 0.75 AND metrics.loss < 0.85": "r1",
        "metrics.loss = 0.7": "r2",
        "metrics.loss != 0.7": "r0 r1 r3 r4 r5 r6",
        "metrics.loss >= -1.5 and metrics.loss < 0": "r6",
        "metrics.`val loss` > 0.4": "r0",
        'metrics."val loss" > 4e-1': "r0",
        "metrics.auc > 0.65 AND metrics.auc < 1": "r2 r4",
        "metrics.absent > 0": "",
    })


@check
def filters_on_parameters():
    each({
        "params.kind = 'tree'": "r0 r1",
        "params.kind != 'tree'": "r2 r3 r4 r6",
        "param.kind LIKE 'f%'": "r3",
        "params.kind ILIKE 'f%'": "r2 r3",
        "params.kind LIKE '%re%'": "r0 r1 r2 r3",
        "parameters.depth = '10'": "r3",
        'params.depth = "2"': "r1",
        "params.depth LIKE '_'": "r0 r1 r2 r5 r6",
        "params.kind IS NULL": "r5",
        "params.depth IS NOT NULL AND params.kind IS NOT NULL": "r0 r1 r2 r3 r6",
    })


@check
def filters_on_tags():
    each({
        "tags.owner = 'ada'": "r0 r2",
        "tag.owner != 'ada'": "r1 r4 r5 r6",
        'tags.owner = "O\'Hara"': "r4",
        "tags.owner IS NULL": "r3",
        "tags.`odd key` = 'r3'": "r3",
        'tags."odd key" LIKE \'r%\' AND tags.owner ILIKE \'GR%\'': "r1",
        "tags.mlflow.runName = 'r2'": "r2",
    })


@check
def filters_on_attributes():
    each({
        "attributes.status = 'FINISHED'": "r0 r1 r3",
        "attr.status != 'FINISHED'": "r2 r4 r5 r6",
        "status = 'KILLED'": "r4",
        "attributes.run_name LIKE 'r%' AND run_name != 'r0'": "r1 r2 r3 r4 r5 r6",
        "attributes.`run name` = 'r5'": "r5",
        "run.run_name ILIKE 'R6'": "r6",
        f"attributes.start_time >= {START + 5}": "r5 r6",
        f"start_time < {START + 2}": "r0 r1",
        f"attributes.created = {START + 3}": "r3",
        f"attributes.end_time > {START + 2000}": "r3 r4",
        "attributes.artifact_uri LIKE 'mlflow-artifacts:/%'": "r0 r1 r2 r3 r4 r5 r6",
    })


@check
def filters_on_run_ids():
    ids = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    each({
        f"attributes.run_id = '{ids['r1']}'": "r1",
        f"run_id IN ('{ids['r1']}', '{ids['r4']}')": "r1 r4",
        f"attributes.run_id NOT IN ('{ids['r1']}','{ids['r4']}') AND params.kind = 'tree'": "r0",
    })


@check
def several_kinds_at_once():
    each({
        "metrics.loss < 0.85 AND params.kind ILIKE 'forest' AND tags.owner = 'ada' AND status = 'FAILED'": "r2",
        "params.kind = 'tree' AND params.depth = '2' AND metrics.loss > 0": "r1",
        "params.kind = 'tree' AND params.kind = 'forest'": "",
    })


@check
def orders():
    for order, wanted in {
        (): "r6 r5 r4 r3 r2 r1 r0",
        ("metrics.loss ASC",): "r6 r5 r4 r3 r2 r1 r0",
        ("metric.loss DESC",): "r0 r1 r2 r3 r4 r5 r6",
        ("metrics.`val loss`",): "r6 r5 r4 r3 r2 r1 r0",
        ("params.kind ASC", "start_time ASC"): "r6 r2 r3 r4 r0 r1 r5",
        ("params.depth DESC",): "r6 r5 r2 r1 r3 r0 r4",
        ("tags.owner", "start_time ASC"): "r4 r5 r0 r2 r6 r1 r3",
        ("attributes.status ASC", "attributes.start_time DESC"): "r2 r3 r1 r0 r4 r5 r6",
        ("run_name DESC",): "r6 r5 r4 r3 r2 r1 r0",
        ("attributes.start_time",): "r0 r1 r2 r3 r4 r5 r6",
        ("end_time DESC", "start_time ASC"): "r4 r3 r2 r1 r0 r5 r6",
    }.items():
        same(names(order=order), wanted, f"ordered by {order}")


@check
def missing_metrics_come_last_and_nan_after_all_numbers():
    ascending, descending = names(order=["metrics.auc ASC"]).split(), names(order=["metrics.auc DESC"]).split()
    same(ascending[:4], ["r0", "r5", "r2", "r4"])
    same([name for name in descending if name not in ("r1", "r3")], ["r6", "r4", "r2", "r5", "r0"])
    same((ascending[-2:], descending[-2:]), (["r3", "r1"], ["r3", "r1"]))


@check
def deleted_runs_are_found_when_asked_for():
    same(names(view=ViewType.DELETED_ONLY), "gone")
    same(names(view=ViewType.ALL), "gone r0 r1 r2 r3 r4 r5 r6")


@check
def pages_neither_miss_nor_repeat():
    for order in [[], ["metrics.auc DESC"], ["params.kind ASC"], ["tags.owner DESC", "metrics.loss ASC"], ["status"]]:
        whole = [run.info.run_id for run in client.search_runs([experiment], order_by=order)]
        for limit in [1, 2, 3, 7]:
            found, sizes = pages(lambda t: client.search_runs([experiment], order_by=order, max_results=limit, page_token=t))
            same([run.info.run_id for run in found], whole, f"pages of {limit} ordered by {order}")
            holds(all(size == limit for size in sizes[:-1]), f"full pages of {limit}: {sizes}")


@check
def a_run_that_begins_between_two_pages_makes_none_come_twice():
    other = client.create_experiment(unique("pages"))
    for n in range(6):
        client.create_run(other, start_time=START + n, run_name=f"n{n}")
    first = client.search_runs([other], max_results=3, order_by=["start_time ASC"])
    client.create_run(other, start_time=START + 100, run_name="late")
    second = client.search_runs([other], max_results=3, order_by=["start_time ASC"], page_token=first.token)
    same([run.info.run_name for run in [*first, *second]], [f"n{n}" for n in range(6)])


@check
def no_experiments_no_runs():
    same(list(client.search_runs([])), [])
    same(len(client.search_runs([client.create_experiment(unique("empty"))])), 0)


@check
def a_table_of_runs_has_a_column_for_all_that_was_logged():
    table = mlflow.search_runs([experiment], filter_string="params.kind = 'tree'", order_by=["metrics.loss ASC"])
    same(list(table["tags.mlflow.runName"]), ["r1", "r0"])
    same(list(table["metrics.loss"]), [0.8, 0.9])
    holds(math.isnan(table["metrics.auc"][0]) and table["metrics.auc"][1] == 0.5, "an absent metric is NaN")
    same(list(table["params.depth"]), ["2", "1"])
    name = client.get_experiment(experiment).name
    same(len(mlflow.search_runs(experiment_names=[name], output_format="list")), 7)


@check
def what_is_no_filter_is_refused():
    for clause in [
        "metrics.loss",
        "metrics.loss <",
        "metrics.loss > 'a'",
        "params.kind = tree",
        "params.kind > 'a'",
        "colour.kind = 'a'",
        "attributes.colour = 'a'",
        "metrics.loss LIKE '1%'",
        "start_time = 'noon'",
        "params.kind = 'a",
        "params.kind IN ('a'",
    ]:
        with refused("INVALID_PARAMETER_VALUE"):
            raise AssertionError(f"`{clause}` found: {names(clause)}")
    for order in ["colour.kind", "attributes.colour", "metrics.loss SIDEWAYS"]:
        with refused("INVALID_PARAMETER_VALUE"):
            raise AssertionError(f"`{order}` ordered: {names(order=[order])}")
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_runs([experiment], page_token="no token")
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_runs([experiment], max_results=50_001)
