"""What MLflow's client makes of a token that may only look, and of one that does not hold."""

import os

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

client = MlflowClient()
assert client.search_experiments()[0].name == "Default"
try:
    client.create_experiment("mine")
except MlflowException as refused:
    assert refused.error_code == "PERMISSION_DENIED", refused
    assert "needs the right `write`" in refused.message, refused
else:
    raise AssertionError("a viewer created an experiment")
os.environ["MLFLOW_TRACKING_TOKEN"] = "mpt_default.0123456789abcdef." + "0" * 64
try:
    mlflow.search_experiments()
except MlflowException as refused:
    assert refused.error_code == "UNAUTHENTICATED", refused
else:
    raise AssertionError("a token that nobody made was taken")
print("ok")
