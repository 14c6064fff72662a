"""Runs: parameters, metrics and tags, through the fluent calls and through the client."""

import math

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag

from checks import check, holds, now_ms, refused, same, unique

client = MlflowClient()
experiment = mlflow.set_experiment(unique("runs")).experiment_id


def fresh(**more):
    return client.create_run(experiment, **more).info.run_id


def history(run, key):
    return [(m.value, m.step, m.timestamp) for m in client.get_metric_history(run, key)]


@check
def a_script_that_logs_as_people_do():
    with mlflow.start_run(run_name="first", description="what it is for", tags={"phase": "dev"}) as active:
        mlflow.log_param("depth", 3)
        mlflow.log_params({"rate": 0.1, "kind": "tree", "none": None})
        mlflow.log_metric("loss", 0.5, step=1)
        mlflow.log_metrics({"loss": 0.25, "auc": 0.9}, step=2)
        mlflow.set_tag("owner", "ada")
        mlflow.set_tags({"a": 1, "b": "two"})
        same(client.get_run(active.info.run_id).info.status, "RUNNING")
    run = client.get_run(active.info.run_id)
    info = run.info
    same((info.run_name, info.status, info.lifecycle_stage), ("first", "FINISHED", "active"))
    same(info.experiment_id, experiment)
    same(info.artifact_uri, f"mlflow-artifacts:/{experiment}/{info.run_id}/artifacts")
    holds(len(info.run_id) == 32 and int(info.run_id, 16) >= 0, f"run id {info.run_id} is not 32 hex digits")
    holds(0 < info.start_time <= info.end_time, "it began before it ended")
    same(run.data.params, {"depth": "3", "rate": "0.1", "kind": "tree", "none": "None"})
    same(run.data.metrics, {"loss": 0.25, "auc": 0.9})
    own = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    same(own, {"phase": "dev", "owner": "ada", "a": "1", "b": "two"})
    same(run.data.tags["mlflow.runName"], "first")
    same(run.data.tags["mlflow.note.content"], "what it is for")
    holds("mlflow.user" in run.data.tags and "mlflow.source.name" in run.data.tags, "the client's own tags are kept")


@check
def a_script_that_fails_leaves_a_failed_run():
    try:
        with mlflow.start_run() as active:
            raise KeyError("boom")
    except KeyError:
        pass
    same(client.get_run(active.info.run_id).info.status, "FAILED")


@check
def children_name_their_parent():
    with mlflow.start_run(run_name="parent") as parent:
        with mlflow.start_run(run_name="child", nested=True) as child:
            mlflow.log_metric("x", 1)
        with mlflow.start_run(run_name="other child", nested=True):
            pass
    same(client.get_parent_run(child.info.run_id).info.run_id, parent.info.run_id)
    found = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'", order_by=["start_time ASC"])
    same([run.info.run_name for run in found], ["child", "other child"])


@check
def a_run_is_resumed_by_its_id():
    with mlflow.start_run() as first:
        mlflow.log_metric("seen", 1, step=0)
    with mlflow.start_run(run_id=first.info.run_id):
        same(client.get_run(first.info.run_id).info.status, "RUNNING")
        mlflow.log_metric("seen", 2, step=1)
    run = client.get_run(first.info.run_id)
    same((run.info.status, run.data.metrics), ("FINISHED", {"seen": 2.0}))


@check
def a_run_without_a_name_gets_one():
    run = client.create_run(experiment)
    holds(run.info.run_name, "a name was made")
    same(run.data.tags["mlflow.runName"], run.info.run_name)


@check
def the_name_and_its_tag_always_agree():
    run = fresh(run_name="one")
    client.update_run(run, name="two")
    found = client.get_run(run)
    same((found.info.run_name, found.data.tags["mlflow.runName"]), ("two", "two"))
    client.set_tag(run, "mlflow.runName", "three")
    same(client.get_run(run).info.run_name, "three")
    client.log_batch(run, tags=[RunTag("mlflow.runName", "four")])
    same(client.get_run(run).info.run_name, "four")


@check
def a_state_and_its_end_are_kept():
    run = fresh(start_time=1_700_000_000_123)
    for status in ["SCHEDULED", "RUNNING", "KILLED"]:
        client.update_run(run, status=status)
        same(client.get_run(run).info.status, status)
    client.set_terminated(run, status="FAILED", end_time=1_700_000_009_456)
    info = client.get_run(run).info
    same((info.status, info.start_time, info.end_time), ("FAILED", 1_700_000_000_123, 1_700_000_009_456))
    same(RunStatus.from_string(info.status), RunStatus.FAILED)


@check
def a_parameter_is_written_once():
    run = fresh()
    client.log_param(run, "depth", 3)
    client.log_param(run, "depth", "3")
    with refused("INVALID_PARAMETER_VALUE"):
        client.log_param(run, "depth", 4)
    with refused("INVALID_PARAMETER_VALUE"):
        client.log_batch(run, params=[Param("fine", "1"), Param("depth", "5")])
    same(client.get_run(run).data.params["depth"], "3")


@check
def a_batch_with_a_fault_writes_nothing():
    run = fresh()
    with refused("INVALID_PARAMETER_VALUE"):
        client.log_batch(run, metrics=[Metric("m", 1, 1, 1)], params=[Param("p", "1"), Param("p", "2")], tags=[RunTag("t", "1")])
    data = client.get_run(run).data
    same((data.params, data.metrics, "t" in data.tags), ({}, {}, False))


@check
def a_long_parameter_is_kept_to_6000_characters():
    run = fresh()
    client.log_param(run, "long", "x" * 6000)
    same(len(client.get_run(run).data.params["long"]), 6000)


@check
def metrics_keep_steps_times_and_values():
    run = fresh()
    for value, step, at in [(0.5, 1, 1_700_000_000_000), (0.25, 3, 1_700_000_000_001), (0.125, 2, 1_700_000_000_002), (4, -5, 7)]:
        client.log_metric(run, "loss", value, timestamp=at, step=step)
    same(
        sorted(history(run, "loss"), key=lambda point: point[1]),
        [(4.0, -5, 7), (0.5, 1, 1_700_000_000_000), (0.125, 2, 1_700_000_000_002), (0.25, 3, 1_700_000_000_001)],
    )
    same(client.get_run(run).data.metrics, {"loss": 0.25})


@check
def the_latest_point_is_by_step_then_time_then_value():
    run = fresh()
    for key, points in {
        "by step": [(1, 10, 5), (2, 1, 4)],
        "by time": [(1, 10, 5), (2, 9, 5)],
        "by value": [(7, 10, 5), (8, 10, 5), (3, 10, 5)],
    }.items():
        for value, at, step in points:
            client.log_metric(run, key, value, timestamp=at, step=step)
    same(client.get_run(run).data.metrics, {"by step": 1.0, "by time": 1.0, "by value": 8.0})


@check
def numbers_that_are_none_and_numbers_without_end_are_kept():
    run = fresh()
    values = {"nan": math.nan, "up": math.inf, "down": -math.inf, "tiny": 5e-324, "huge": 1.7976931348623157e308, "third": 1 / 3}
    for key, value in values.items():
        client.log_metric(run, key, value, timestamp=1, step=0)
    found = client.get_run(run).data.metrics
    holds(math.isnan(found["nan"]), f"NaN came back as {found['nan']}")
    # MLflow's stores keep infinities as the greatest number a double holds.
    holds(found["up"] >= 1.7976931348623157e308 and found["down"] <= -1.7976931348623157e308, f"{found}")
    for key in ["tiny", "huge", "third"]:
        same(found[key], values[key], key)
    holds(math.isnan(client.get_metric_history(run, "nan")[0].value), "its history has it, too")


@check
def a_point_sent_twice_is_one_point():
    run = fresh()
    points = [Metric("loss", n / 7, 1_000 + n, n) for n in range(20)]
    for _ in range(2):
        client.log_batch(run, metrics=points)
    client.log_metric(run, "loss", points[3].value, timestamp=points[3].timestamp, step=points[3].step)
    same(sorted(history(run, "loss"), key=lambda p: p[1]), [(p.value, p.step, p.timestamp) for p in points])


@check
def a_batch_of_a_thousand_metrics_is_taken_whole():
    run, at = fresh(), now_ms()
    client.log_batch(run, metrics=[Metric(f"m{n % 10}", n, at + n, n) for n in range(1000)])
    data = client.get_run(run).data
    same(data.metrics, {f"m{n}": float(990 + n) for n in range(10)})
    same(history(run, "m4"), [(float(n), n, at + n) for n in range(4, 1000, 10)])


@check
def a_batch_of_all_three_kinds_is_taken():
    run = fresh()
    client.log_batch(
        run,
        metrics=[Metric(f"m{n}", n, 1, 0) for n in range(800)],
        params=[Param(f"p{n}", str(n)) for n in range(100)],
        tags=[RunTag(f"t{n}", str(n)) for n in range(100)],
    )
    data = client.get_run(run).data
    same((len(data.metrics), len(data.params)), (800, 100))
    same([data.tags[f"t{n}"] for n in range(100)], [str(n) for n in range(100)])


@check
def a_long_history_comes_whole_and_in_order():
    run = fresh()
    for start in range(0, 3000, 1000):
        client.log_batch(run, metrics=[Metric("curve", math.sin(n), 10 * n, n) for n in range(start, start + 1000)])
    same(history(run, "curve"), [(math.sin(n), n, 10 * n) for n in range(3000)])
    same(client.get_metric_history(run, "absent"), [])


@check
def keys_may_have_spaces_slashes_and_letters_of_any_tongue():
    run = fresh()
    keys = ["val loss", "train/loss", "a.b-c_d", "größe", "损失", "k" * 250]
    client.log_batch(
        run,
        metrics=[Metric(key, 1, 1, 0) for key in keys],
        params=[Param(key, key) for key in keys],
        tags=[RunTag(key, key) for key in keys],
    )
    data = client.get_run(run).data
    same((sorted(data.metrics), sorted(data.params)), (sorted(keys), sorted(keys)))
    same({key: data.tags[key] for key in keys}, {key: key for key in keys})


@check
def tags_are_set_changed_and_removed():
    run = fresh(tags={"a": "1"})
    client.set_tag(run, "a", "2")
    client.set_tag(run, "b", "")
    same([client.get_run(run).data.tags[key] for key in "ab"], ["2", ""])
    client.delete_tag(run, "a")
    holds("a" not in client.get_run(run).data.tags, "it is gone")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_tag(run, "a")


@check
def a_deleted_run_takes_no_writes_until_it_is_restored():
    run = fresh()
    client.log_metric(run, "kept", 1)
    client.delete_run(run)
    same(client.get_run(run).info.lifecycle_stage, "deleted")
    for write in [
        lambda: client.log_metric(run, "m", 1),
        lambda: client.log_param(run, "p", 1),
        lambda: client.set_tag(run, "t", 1),
        lambda: client.log_batch(run, metrics=[Metric("m", 1, 1, 1)]),
    ]:
        with refused("INVALID_PARAMETER_VALUE", "INVALID_STATE"):
            write()
    client.restore_run(run)
    client.log_metric(run, "m", 1)
    same(sorted(client.get_run(run).data.metrics), ["kept", "m"])


@check
def an_unknown_run_is_an_error_everywhere():
    unknown = "0" * 32
    for call in [
        lambda: client.get_run(unknown),
        lambda: client.log_metric(unknown, "m", 1),
        lambda: client.log_param(unknown, "p", 1),
        lambda: client.set_tag(unknown, "t", 1),
        lambda: client.log_batch(unknown, metrics=[Metric("m", 1, 1, 1)]),
        lambda: client.update_run(unknown, status="FAILED"),
        lambda: client.delete_run(unknown),
    ]:
        with refused("RESOURCE_DOES_NOT_EXIST"):
            call()
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.create_run("987654321")


@check
def logging_without_waiting_arrives_in_the_end():
    with mlflow.start_run() as active:
        for step in range(50):
            mlflow.log_metric("async", step, step=step, synchronous=False)
        mlflow.log_params({"p": 1}, synchronous=False)
        mlflow.set_tags({"t": 1}, synchronous=False)
        mlflow.flush_async_logging()
    run = client.get_run(active.info.run_id)
    same((len(history(active.info.run_id, "async")), run.data.params, run.data.tags["t"]), (50, {"p": "1"}, "1"))
