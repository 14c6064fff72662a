"""Workspaces through MLflow's client: found, created, worked in. The credentials come from the environment."""

import mlflow

names = [workspace.name for workspace in mlflow.list_workspaces()]
assert names == ["default", "vision"], names
assert mlflow.create_workspace("sound").name == "sound"
assert mlflow.get_workspace("sound").name == "sound"
mlflow.set_workspace("sound")
mlflow.set_experiment("from-the-client")
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.5)
assert mlflow.get_run(run.info.run_id).data.metrics == {"loss": 0.5}
mlflow.set_workspace("vision")
try:
    mlflow.get_run(run.info.run_id)
except mlflow.exceptions.MlflowException as refused:
    assert refused.error_code == "RESOURCE_DOES_NOT_EXIST", refused
else:
    raise AssertionError("a run of one workspace was found in another")
print("ok")
