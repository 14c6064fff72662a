"""Models as frameworks log them: logged, registered, loaded again and asked the same question."""

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression

from checks import check, holds, near, refused, same, unique

client = MlflowClient()
experiment = mlflow.set_experiment(unique("flavors")).experiment_id

rng = np.random.default_rng(7)
X = pd.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "c"])
Y = pd.Series((X["a"] + 0.5 * X["b"] + 0.1 * rng.normal(size=200) > 0).astype(int), name="y")
# Named, so that no process has to be started to find out what the model imports.
NEEDS = ["scikit-learn"]


class Doubler(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["a"] * 2


@check
def autolog_keeps_parameters_metrics_data_and_the_model():
    mlflow.sklearn.autolog(silent=True)
    try:
        with mlflow.start_run() as active:
            fitted = LogisticRegression(C=0.5, max_iter=200).fit(X, Y)
    finally:
        mlflow.sklearn.autolog(disable=True, silent=True)
    run = client.get_run(active.info.run_id)
    same((run.data.params["C"], run.data.params["max_iter"]), ("0.5", "200"))
    near([run.data.metrics["training_accuracy_score"]], [fitted.score(X, Y)], 1e-9)
    same(run.data.tags["estimator_name"], "LogisticRegression")
    same([i.tags[0].value for i in run.inputs.dataset_inputs], ["train"])
    models = mlflow.search_logged_models([experiment], filter_string=f"source_run_id = '{run.info.run_id}'", output_format="list")
    same(len(models), 1)
    same([output.model_id for output in run.outputs.model_outputs], [models[0].model_id])
    loaded = mlflow.sklearn.load_model(models[0].model_uri)
    near(loaded.predict_proba(X)[:, 1], fitted.predict_proba(X)[:, 1], 1e-12)


@check
def a_logged_and_registered_model_predicts_as_before():
    name = unique("classifier")
    fitted = LogisticRegression().fit(X, Y)
    wanted = fitted.predict(X)
    with mlflow.start_run() as active:
        logged = [
            mlflow.sklearn.log_model(
                fitted,
                name="classifier",
                registered_model_name=name,
                signature=infer_signature(X, wanted),
                input_example=X.head(3),
                pip_requirements=NEEDS,
                params={"tries": 5},
            )
            for _ in range(2)
        ]
    version = client.get_model_version(name, "1")
    same((version.run_id, version.status, version.source), (active.info.run_id, "READY", f"models:/{logged[0].model_id}"))
    same([v.version for v in client.get_latest_versions(name)], ["2"])
    client.set_registered_model_alias(name, "champion", 1)
    client.transition_model_version_stage(name, "1", "Staging")
    for address in [logged[0].model_uri, *(f"models:/{name}{which}" for which in ["/1", "/2", "/latest", "/Staging", "@champion"])]:
        loaded = mlflow.pyfunc.load_model(address)
        same(list(loaded.predict(X)), list(wanted), address)
    same([column.name for column in loaded.metadata.signature.inputs], ["a", "b", "c"])
    near(loaded.input_example["a"], X["a"].head(3), 1e-12)
    info = mlflow.models.get_model_info(f"models:/{name}@champion")
    same(info.model_id, logged[0].model_id)
    tag = client.get_logged_model(logged[1].model_id).tags["mlflow.modelVersions"]
    holds(name in tag and '"2"' in tag.replace(": 2", ': "2"'), f"the logged model names its version: {tag}")


@check
def a_model_of_a_run_is_registered_afterwards():
    name = unique("line")
    fitted = LinearRegression().fit(X, Y)
    with mlflow.start_run() as active:
        mlflow.sklearn.log_model(fitted, name="line", signature=infer_signature(X, fitted.predict(X)), pip_requirements=NEEDS)
    version = mlflow.register_model(f"runs:/{active.info.run_id}/line", name, tags={"by": "hand"})
    same((version.version, version.run_id), ("1", active.info.run_id))
    same(client.get_model_version(name, "1").tags["by"], "hand")
    near(mlflow.pyfunc.load_model(f"models:/{name}/1").predict(X), fitted.predict(X), 1e-12)
    near(mlflow.sklearn.load_model(f"runs:/{active.info.run_id}/line").predict(X), fitted.predict(X), 1e-12)
    again = mlflow.register_model(f"models:/{name}/1", unique("copy"))
    near(mlflow.pyfunc.load_model(f"models:/{again.name}/{again.version}").predict(X), fitted.predict(X), 1e-12)


@check
def a_version_is_copied_to_another_model():
    name, other = unique("origin"), unique("target")
    fitted = LinearRegression().fit(X, Y)
    with mlflow.start_run():
        mlflow.sklearn.log_model(fitted, name="m", registered_model_name=name, pip_requirements=NEEDS)
    copied = client.copy_model_version(f"models:/{name}/1", other)
    same((copied.name, copied.version), (other, "1"))
    near(mlflow.sklearn.load_model(f"models:/{other}/1").predict(X), fitted.predict(X), 1e-12)


@check
def a_model_written_in_python_is_loaded_by_alias():
    name = unique("doubler")
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="doubler", python_model=Doubler(), registered_model_name=name, pip_requirements=[], input_example=X.head(2)
        )
    client.set_registered_model_alias(name, "live", "1")
    near(mlflow.pyfunc.load_model(f"models:/{name}@live").predict(X), X["a"] * 2, 1e-12)


@check
def a_model_that_is_gone_cannot_be_loaded():
    name = unique("gone")
    fitted = LinearRegression().fit(X, Y)
    with mlflow.start_run():
        mlflow.sklearn.log_model(fitted, name="m", registered_model_name=name, pip_requirements=NEEDS)
    client.delete_model_version(name, "1")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        mlflow.pyfunc.load_model(f"models:/{name}/1")
    client.delete_registered_model(name)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        mlflow.pyfunc.load_model(f"models:/{name}@any")
