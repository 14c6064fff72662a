"""Many at once: nothing is lost, nothing is given twice, nobody sees what never was."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import RestException

from checks import check, holds, same, unique

client = MlflowClient()
THREADS = 8


def at_once(work, count=THREADS):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


@check
def eight_threads_log_to_one_run_and_nothing_is_lost():
    run = client.create_run(client.create_experiment(unique("threads"))).info.run_id

    def work(n):
        for step in range(25):
            client.log_metric(run, "shared", n, timestamp=1000 * n + step, step=step)
            client.log_metric(run, f"own {n}", step, timestamp=step, step=step)
        client.log_batch(run, metrics=[Metric("batch", n, 1, 100 * n + s) for s in range(100)], params=[Param(f"p{n}", str(n))])
        client.log_batch(run, tags=[RunTag(f"t{n}", str(n))])
        client.log_param(run, "the same for all", "x")

    at_once(work)
    data = client.get_run(run).data
    same({key: data.metrics[key] for key in data.metrics if key.startswith("own")}, {f"own {n}": 24.0 for n in range(THREADS)})
    # Highest step, then the latest time: the last thread's.
    same((data.metrics["shared"], data.metrics["batch"]), (THREADS - 1.0, THREADS - 1.0))
    same(data.params, {f"p{n}": str(n) for n in range(THREADS)} | {"the same for all": "x"})
    same([data.tags[f"t{n}"] for n in range(THREADS)], [str(n) for n in range(THREADS)])
    same(len(client.get_metric_history(run, "shared")), 25 * THREADS)
    same(sorted(m.step for m in client.get_metric_history(run, "batch")), list(range(100 * THREADS)))


@check
def versions_made_at_once_have_numbers_of_their_own():
    name = unique("race")
    client.create_registered_model(name)
    run = client.create_run("0").info
    made = at_once(lambda _: [client.create_model_version(name, f"{run.artifact_uri}/m", run.run_id).version for _ in range(5)])
    same(sorted(int(n) for numbers in made for n in numbers), list(range(1, 5 * THREADS + 1)))
    for numbers in made:
        same(sorted(numbers, key=int), numbers, "one caller's numbers rise")


@check
def one_of_many_gets_the_name():
    name = unique("name race")

    def work(_):
        try:
            return client.create_experiment(name)
        except RestException as error:
            return error.error_code

    answers = at_once(work)
    same(sorted(a for a in answers if not a.isdigit()), ["RESOURCE_ALREADY_EXISTS"] * (THREADS - 1))


@check
def an_alias_under_fire_always_points_at_a_version():
    name, over = unique("fire"), Event()
    client.create_registered_model(name)
    run = client.create_run("0").info
    for _ in range(2):
        client.create_model_version(name, f"{run.artifact_uri}/m", run.run_id)
    client.set_registered_model_alias(name, "live", "1")

    def read(_):
        seen = set()
        while not over.is_set():
            seen.add(client.get_model_version_by_alias(name, "live").version)
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, n) for n in range(4)]
        try:
            for turn in range(30):
                client.set_registered_model_alias(name, "live", str(turn % 2 + 1))
        finally:
            over.set()
    seen = set().union(*(reader.result() for reader in readers))
    holds(seen and seen <= {"1", "2"}, f"seen: {seen}")
    same(client.get_registered_model(name).aliases, {"live": "2"})


@check
def tags_of_one_run_set_by_all_end_as_one_of_them():
    run = client.create_run("0").info.run_id
    at_once(lambda n: [client.set_tag(run, "who", str(n)) for _ in range(10)])
    holds(client.get_run(run).data.tags["who"] in {str(n) for n in range(THREADS)}, "one of them won")
