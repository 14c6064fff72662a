"""The `mlflow` command, as a process of its own."""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlflow import MlflowClient

from checks import check, holds, same, unique

client = MlflowClient()


def mlflow(*args):
    done = subprocess.run([sys.executable, "-m", "mlflow", *args], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise AssertionError(f"mlflow {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@check
def the_command_sees_what_the_client_made():
    name = unique("command")
    experiment = client.create_experiment(name)
    run = client.create_run(experiment, run_name="from the command").info.run_id
    client.log_text(run, "hello", "greetings/hello.txt")
    with tempfile.TemporaryDirectory() as folder:
        calls = [
            ("experiments", "search"),
            ("runs", "list", "--experiment-id", experiment),
            ("artifacts", "list", "--run-id", run, "--artifact-path", "greetings"),
            ("artifacts", "download", "--run-id", run, "--artifact-path", "greetings", "--dst-path", folder),
        ]
        # Each takes seconds to start.
        with ThreadPoolExecutor(len(calls)) as pool:
            experiments, runs, files, _ = pool.map(lambda call: mlflow(*call), calls)
        holds(name in experiments, f"`mlflow experiments search` lists {name}:\n{experiments}")
        holds(run in runs and "from the command" in runs, f"`mlflow runs list` lists {run}:\n{runs}")
        holds("greetings/hello.txt" in files, f"`mlflow artifacts list` lists the file:\n{files}")
        same(Path(folder, "greetings", "hello.txt").read_text(), "hello")
