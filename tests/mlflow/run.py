"""Runs the checks of every script beside this one, or of those named, in one process: importing MLflow takes longest.

    MLFLOW_TRACKING_URI=http://127.0.0.1:8080 python tests/mlflow/run.py [experiments runs ...]

Prints `ok NAME` for each check that holds. Exits with 1 when one did not, after running them all.
"""

import importlib
import logging
import os
import sys
import time
import traceback
import warnings

SCRIPTS = ["experiments", "runs", "inputs", "search", "artifacts", "registry", "logged", "flavors", "threads", "command"]


def settle():
    """What a check must not depend on: telemetry, retries that hide a 5xx for minutes, terminals and git."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)


def holds(function):
    """Runs one check; its name when it fails."""
    import mlflow

    name = f"{function.__module__}: {function.__name__.replace('_', ' ')}"
    started = time.monotonic()
    try:
        function()
    except Exception:
        print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        return name
    finally:
        # A check that broke off inside a run must not leave it to the next one.
        while mlflow.active_run():
            mlflow.end_run()
    print(f"ok {name} ({time.monotonic() - started:.1f} s)", flush=True)
    return None


def main(names):
    if "MLFLOW_TRACKING_URI" not in os.environ:
        sys.exit("MLFLOW_TRACKING_URI must say where the server is, such as http://127.0.0.1:8080")
    unknown = [name for name in names if name not in SCRIPTS]
    if unknown:
        sys.exit(f"no such script: {', '.join(unknown)}; there are {', '.join(SCRIPTS)}")
    settle()
    warnings.simplefilter("ignore")
    import mlflow
    from checks import CHECKS

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    print(f"mlflow {mlflow.__version__} against {os.environ['MLFLOW_TRACKING_URI']}", flush=True)
    failed = []
    for script in names or SCRIPTS:
        done = len(CHECKS)
        # Importing a script chooses its experiment, so the one before must have ended.
        importlib.import_module(script)
        failed.extend(name for name in map(holds, CHECKS[done:]) if name)
    print(f"{len(CHECKS) - len(failed)} ok, {len(failed)} failed", flush=True)
    if failed:
        sys.exit("failed:\n  " + "\n  ".join(failed))


if __name__ == "__main__":
    main(sys.argv[1:])
