"""Feast's client, unmodified, against the server: what is read, written and joined, beside answers worked out in pandas.

    MILLPOND_URL=http://127.0.0.1:8080 python client.py local|remote

`local` keeps the registry in a file, as a user does who only moves the stores; `remote` reads it from the server.
"""

import json
import os
import sys
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
from checks import check, raised, run, same, store
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import PushMode
from feast.errors import (
    EntityNotFoundException,
    FeastError,
    FeatureNameCollisionError,
    FeatureServiceNotFoundException,
    FeatureViewNotFoundException,
)
from feast.types import Bool, Float64, Int64, String

warnings.simplefilter("ignore")
START = datetime(2024, 3, 1, tzinfo=timezone.utc)
REMOTE = sys.argv[1] == "remote"


def local_definitions():
    """What the server's definitions are in Feast's own words."""
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    zone = Entity(name="zone", join_keys=["zone"], value_type=ValueType.STRING)
    stats = FileSource(
        name="driver_stats", path="none.parquet", timestamp_field="event_timestamp", created_timestamp_column="created"
    )
    fares = FileSource(name="fares", path="none.parquet", timestamp_field="event_timestamp")
    driver_stats = FeatureView(
        name="driver_stats",
        entities=[driver],
        ttl=timedelta(days=2),
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="conv_rate", dtype=Float64),
            Field(name="trips", dtype=Int64),
            Field(name="note", dtype=String),
            Field(name="active", dtype=Bool),
        ],
        source=PushSource(name="driver_stats_push", batch_source=stats),
    )
    fares_view = FeatureView(
        name="fares",
        entities=[driver, zone],
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="zone", dtype=String),
            Field(name="fare", dtype=Float64),
            Field(name="trips", dtype=Int64),
        ],
        source=PushSource(name="fares_push", batch_source=fares),
    )
    service = FeatureService(name="rides", features=[driver_stats, fares_view[["fare"]]])
    return [driver, zone, driver_stats, fares_view, service]


STORE = store(None if REMOTE else Path.cwd() / "registry.db")
if not REMOTE:
    STORE.apply(local_definitions())


def online(features, **keys):
    return STORE.get_online_features(features=features, entity_rows=[dict(zip(keys, row)) for row in zip(*keys.values())]).to_dict()


def rows(times, **columns):
    frame = pd.DataFrame({**columns, "event_timestamp": pd.to_datetime(times, utc=True)})
    frame["created"] = frame["event_timestamp"]
    return frame


def drivers(first, when, **changes):
    """Two drivers, told apart from those of every other check by `first`."""
    columns = {"conv_rate": [0.5, 0.25], "trips": [3, 4], "note": ["a", "b"], "active": [True, False], **changes}
    return rows([when, when], driver_id=[first, first + 1], **columns)


@check
def what_is_written_is_read_at_once():
    now = datetime.now(timezone.utc)
    STORE.write_to_online_store("driver_stats", drivers(100, now, conv_rate=[0.1 + 0.2, np.nan], note=["Zürich", None]))
    found = online(["driver_stats:conv_rate", "driver_stats:trips", "driver_stats:note", "driver_stats:active"], driver_id=[100, 101, 100])
    wanted = {"driver_id": [100, 101, 100], "conv_rate": [0.1 + 0.2, None, 0.1 + 0.2], "trips": [3, 4, 3],
              "note": ["Zürich", None, "Zürich"], "active": [True, False, True]}
    same(found, wanted)


@check
def an_unknown_entity_and_one_that_is_too_old_have_no_values():
    now = datetime.now(timezone.utc)
    STORE.write_to_online_store("driver_stats", drivers(110, now - timedelta(days=3)))
    found = STORE.get_online_features(features=["driver_stats:trips"], entity_rows=[{"driver_id": 110}, {"driver_id": 999_999}])
    same(found.to_dict()["trips"], [None, None])
    statuses = [list(result.statuses) for result in found.proto.results]
    # PRESENT, then OUTSIDE_MAX_AGE and NOT_FOUND: Feast's own server says neither of the two.
    same(statuses, [[1, 1], [4, 3]])


@check
def an_older_event_never_takes_the_place_of_a_newer_one():
    now = datetime.now(timezone.utc)
    STORE.write_to_online_store("driver_stats", drivers(120, now, trips=[10, 10]))
    STORE.write_to_online_store("driver_stats", drivers(120, now - timedelta(hours=1), trips=[1, 1]))
    STORE.push("driver_stats_push", drivers(120, now - timedelta(hours=2), trips=[2, 2]))
    same(online(["driver_stats:trips"], driver_id=[120, 121])["trips"], [10, 10])


@check
def a_push_reaches_the_online_store_and_history():
    now = datetime.now(timezone.utc)
    STORE.push("driver_stats_push", drivers(130, now, trips=[21, 22]), to=PushMode.ONLINE)
    STORE.push("driver_stats_push", drivers(132, now, trips=[23, 24]), to=PushMode.OFFLINE)
    STORE.push("driver_stats_push", drivers(134, now, trips=[25, 26]), to=PushMode.ONLINE_AND_OFFLINE)
    same(online(["driver_stats:trips"], driver_id=list(range(130, 136)))["trips"], list(range(21, 27)))
    spine = pd.DataFrame({"driver_id": range(130, 136), "event_timestamp": [now] * 6})
    joined = STORE.get_historical_features(entity_df=spine, features=["driver_stats:trips"]).to_df()
    same(joined["trips"].tolist(), list(range(21, 27)))


@check
def composite_keys_and_services_and_full_names():
    now = datetime.now(timezone.utc)
    STORE.write_to_online_store("driver_stats", drivers(140, now))
    fares = rows([now, now], driver_id=[140, 140], zone=["north", "south"], fare=[1.5, 2.5], trips=[7, 8])
    STORE.write_to_online_store("fares", fares.drop(columns="created"))
    entities = [{"driver_id": 140, "zone": "south"}, {"driver_id": 140, "zone": "north"}, {"driver_id": 140, "zone": "?"}]
    found = STORE.get_online_features(features=["fares:fare", "driver_stats:trips"], entity_rows=entities).to_dict()
    same(found, {"driver_id": [140] * 3, "zone": ["south", "north", "?"], "fare": [2.5, 1.5, None], "trips": [3, 3, 3]})
    service = STORE.get_feature_service("rides")
    found = STORE.get_online_features(features=service, entity_rows=entities[:1], full_feature_names=True).to_dict()
    same(found["fares__fare"], [2.5])
    same(found["driver_stats__note"], ["a"])
    both = ["fares:trips", "driver_stats:trips"]
    raised(FeatureNameCollisionError, lambda: STORE.get_online_features(features=both, entity_rows=entities), "full_feature_names")
    found = STORE.get_online_features(features=both, entity_rows=entities[:1], full_feature_names=True).to_dict()
    same((found["fares__trips"], found["driver_stats__trips"]), ([8], [3]))


@check
def errors_are_feasts_own_exceptions():
    def ask(feature, **keys):
        return lambda: STORE.get_online_features(features=[feature], entity_rows=[keys])

    raised(FeatureViewNotFoundException, ask("driver_stat:trips", driver_id=1), "did you mean `driver_stats`?")
    raised(FeastError, ask("driver_stats:trip", driver_id=1), "did you mean `driver_stats:trips`?")
    raised(EntityNotFoundException, ask("driver_stats:trips", drivr_id=1), "driver_id")
    raised(FeastError, ask("fares:fare", driver_id=1), "zone")
    raised(FeastError, ask("driver_stats:trips", driver_id="one"), "driver_id[0]")
    unknown = FeatureService(name="nothing", features=[])
    raised(FeatureServiceNotFoundException, lambda: STORE.get_online_features(features=unknown, entity_rows=[{"driver_id": 1}]))


def history(seed=7, keys=40, count=600):
    """Rows with ties, late writes and missing values."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "driver_id": random.integers(1_000, 1_000 + keys, count),
        "conv_rate": np.where(random.random(count) < 0.1, np.nan, random.random(count)),
        "trips": random.integers(0, 100, count),
        "note": random.choice(["a", "b", "c"], count),
        "active": random.random(count) < 0.5,
        # On a grid, so that many rows and questions fall on one instant.
        "event_timestamp": pd.Timestamp(START) + pd.to_timedelta(random.integers(0, 240, count), unit="h"),
    })
    frame["created"] = frame["event_timestamp"] + pd.to_timedelta(np.arange(count), unit="s")
    # A driver's row is told from the next by its event time; of several the one written last counts.
    return frame.drop_duplicates(["driver_id", "event_timestamp"], keep="last")


def naive(spine, rows, features, ttl):
    """The point-in-time join, question by question."""
    answers = []
    for question in spine.itertuples():
        at = pd.Timestamp(question.event_timestamp)
        at = at.tz_localize("UTC") if at.tzinfo is None else at
        known = rows[(rows.driver_id == question.driver_id) & (rows.event_timestamp <= at) & (rows.event_timestamp >= at - ttl)]
        newest = known.sort_values(["event_timestamp", "created"]).tail(1)
        answers.append({f: (newest.iloc[0][f] if len(newest) else None) for f in features})
    return answers


def plain(value):
    return None if pd.isna(value) else value.item() if isinstance(value, np.generic) else value


FEATURES = ["conv_rate", "trips", "note", "active"]
HISTORY = history()


def wrote_history():
    STORE.write_to_offline_store("driver_stats", HISTORY)


def spine(count=300, seed=11):
    random = np.random.default_rng(seed)
    return pd.DataFrame({
        "driver_id": random.integers(995, 1_045, count),
        "event_timestamp": pd.Timestamp(START) + pd.to_timedelta(random.integers(-24, 300, count), unit="h"),
        "label": random.integers(0, 2, count),
    })


def compare(joined, asked):
    wanted = naive(asked, HISTORY, FEATURES, pd.Timedelta(days=2))
    same(len(joined), len(asked), "rows")
    for feature in FEATURES:
        same([plain(v) for v in joined[feature]], [plain(row[feature]) for row in wanted], feature)


@check
def a_training_set_is_the_point_in_time_join():
    wrote_history()
    asked = spine()
    # Exact duplicates, which joins get wrong.
    asked = pd.concat([asked, asked.head(20)], ignore_index=True)
    joined = STORE.get_historical_features(entity_df=asked, features=[f"driver_stats:{f}" for f in FEATURES]).to_df()
    compare(joined, asked)
    pd.testing.assert_frame_equal(joined[asked.columns.tolist()], asked)


@check
def times_in_any_unit_and_zone_are_the_same_instants():
    asked = spine(seed=13)
    features = [f"driver_stats:{f}" for f in FEATURES]
    for unit, zone in [("ns", "UTC"), ("us", "UTC"), ("ms", "America/New_York"), ("s", "UTC"), ("us", None), ("ns", None)]:
        other = asked.copy()
        times = other["event_timestamp"].dt.tz_convert(zone) if zone else other["event_timestamp"].dt.tz_localize(None)
        other["event_timestamp"] = times.dt.as_unit(unit)
        joined = STORE.get_historical_features(entity_df=other, features=features).to_df()
        compare(joined, asked)
        # The client itself turns zones into UTC before it asks.
        same(str(joined["event_timestamp"].dtype), f"datetime64[{unit}, UTC]", f"the type in {unit} and {zone}")


@check
def a_plain_client_of_arrow_gets_its_table_back_as_pandas_made_it():
    asked = spine(count=30).set_index(np.arange(30)[::-1])
    asked["event_timestamp"] = asked["event_timestamp"].dt.tz_convert("America/New_York").dt.as_unit("ms")
    asked["kind"] = pd.Categorical(["x", "y", None] * 10)
    table = pa.Table.from_pandas(asked)
    command = {"api": "get_historical_features", "command_id": "1", "feature_refs": [f"driver_stats:{f}" for f in FEATURES]}
    client = flight.connect(os.environ["MILLPOND_URL"].replace("http://", "grpc://"))
    writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(json.dumps(command)))
    writer.begin(table.schema)
    writer.write_table(table)
    writer.done_writing()
    joined = reader.read_all().to_pandas()
    pd.testing.assert_frame_equal(joined[asked.columns.tolist()], asked)
    compare(joined, asked.assign(event_timestamp=asked["event_timestamp"].dt.tz_convert("UTC")))


@check
def a_question_without_a_key_finds_nothing_and_keeps_its_place():
    asked = spine(count=5)
    asked["driver_id"] = [1_001, None, 1_002, None, 1_003]
    joined = STORE.get_historical_features(entity_df=asked, features=["driver_stats:trips"]).to_df()
    same(joined["label"].tolist(), asked["label"].tolist(), "the order")
    same(joined["trips"].isna().tolist()[1::2], [True, True])


@check
def a_bad_question_is_feasts_own_exception():
    asked = spine(count=3)
    ask = STORE.get_historical_features
    raised(FeastError, lambda: ask(entity_df=asked.drop(columns="driver_id"), features=["driver_stats:trips"]).to_df(), "driver_id")
    raised(FeastError, lambda: ask(entity_df=asked.rename(columns={"label": "trips"}), features=["driver_stats:trips"]).to_df(), "trips")
    raised(FeastError, lambda: ask(entity_df="SELECT 1", features=["driver_stats:trips"]).to_df(), "SQL")


@check
def rows_of_a_source_are_pulled_all_or_the_latest():
    view = STORE.get_feature_view("driver_stats")
    provider, config = STORE._get_provider(), STORE.config
    columns = (["driver_id"], ["trips"], "event_timestamp", "created")
    end = START + timedelta(days=5)
    latest = provider.offline_store.pull_latest_from_table_or_query(config, view.batch_source, *columns, START, end).to_df()
    within = HISTORY[(HISTORY.event_timestamp <= end)]
    wanted = within.sort_values(["event_timestamp", "created"]).groupby("driver_id").tail(1)
    pairs = lambda frame: sorted(zip(frame["driver_id"].tolist(), frame["trips"].tolist()))
    same(pairs(latest), pairs(wanted))
    every = provider.offline_store.pull_all_from_table_or_query(config, view.batch_source, *columns, START, end).to_df()
    same(pairs(every), pairs(within))


@check
def materialising_what_is_online_already_changes_nothing():
    now = datetime.now(timezone.utc)
    STORE.push("driver_stats_push", drivers(150, now, trips=[31, 32]))
    STORE.materialize(START, now + timedelta(seconds=1), feature_views=["driver_stats"])
    same(online(["driver_stats:trips"], driver_id=[150, 151])["trips"], [31, 32])


run()
