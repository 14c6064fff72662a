"""Feast's client where calls need tokens: what an engineer, a viewer and a stranger may do.

    MILLPOND_URL=... ENGINEER=... VIEWER=... ELSEWHERE=... python tokens.py
"""

import os
import warnings
from datetime import datetime, timezone

import pandas as pd
import pyarrow.flight as flight
import requests
from checks import check, raised, run, same, store
from feast.data_source import PushMode
from feast.errors import FeastError, FeastPermissionError, FeatureViewNotFoundException, ProjectObjectNotFoundException

warnings.simplefilter("ignore")
ENGINEER, VIEWER, ELSEWHERE = (os.environ[name] for name in ["ENGINEER", "VIEWER", "ELSEWHERE"])
NOW = datetime.now(timezone.utc)


def rows(driver):
    return pd.DataFrame({"driver_id": [driver], "conv_rate": [0.5], "trips": [7], "note": ["a"], "active": [True],
                         "event_timestamp": [NOW], "created": [NOW]})


def spine(driver):
    return pd.DataFrame({"driver_id": [driver], "event_timestamp": [NOW]})


def read(who, driver):
    return who.get_online_features(features=["driver_stats:trips"], entity_rows=[{"driver_id": driver}]).to_dict()["trips"]


@check
def an_engineer_reads_and_writes_by_every_protocol():
    who = store(project="vision", token=ENGINEER)
    who.push("driver_stats_push", rows(1), to=PushMode.ONLINE_AND_OFFLINE)
    same(read(who, 1), [7])
    same(who.get_historical_features(entity_df=spine(1), features=["driver_stats:trips"]).to_df()["trips"].tolist(), [7])


@check
def a_viewer_reads_and_every_write_is_refused():
    who = store(project="vision", token=VIEWER)
    same(read(who, 1), [7])
    same(who.get_historical_features(entity_df=spine(1), features=["driver_stats:trips"]).to_df()["trips"].tolist(), [7])
    raised(FeastPermissionError, lambda: who.push("driver_stats_push", rows(2)), "write")
    raised(FeastPermissionError, lambda: who.push("driver_stats_push", rows(2), to=PushMode.OFFLINE), "write")
    url = os.environ["MILLPOND_URL"]
    pushed = requests.post(f"{url}/push", json={"push_source_name": "driver_stats", "df": {}}, headers={"authorization": f"Bearer {VIEWER}"})
    same(pushed.status_code, 403)
    same(read(who, 2), [None])


@check
def a_token_of_another_project_finds_nothing_here():
    raised(ProjectObjectNotFoundException, lambda: store(project="vision", token=ELSEWHERE).list_feature_views(), "default")
    who = store(project="default", token=ELSEWHERE)
    same(who.list_feature_views(), [])
    raised(FeatureViewNotFoundException, lambda: read(who, 1))


@check
def without_a_token_nothing_is_answered():
    raised(FeastError, lambda: store(project="vision").list_feature_views(), "token")
    client = flight.connect(os.environ["MILLPOND_URL"].replace("http://", "grpc://"))
    raised(flight.FlightUnauthenticatedError, lambda: list(client.list_flights()), "token")


run()
