"""Feast's feature server over its default online store: peer.py FOLDER ENTITIES PORT.

Writes the same views as the bench, then becomes `feast serve` with one worker that does not end itself every thousand requests.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path

import numpy
import pandas
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

VIEWS = {"small": 10, "wide": 50}
ROWS_AT_ONCE = 10_000


def main(folder, entities, port):
    config = f"project: bench\nprovider: local\nregistry: {folder}/registry.db\nonline_store: {{type: sqlite, path: {folder}/online.db}}\n"
    config += "entity_key_serialization_version: 3\n"
    (Path(folder) / "feature_store.yaml").write_text(config)
    store = FeatureStore(repo_path=folder)
    thing = Entity(name="thing", join_keys=["id"], value_type=ValueType.INT64)
    when = pandas.Timestamp.now(tz="UTC") - pandas.Timedelta(hours=1)
    random = numpy.random.default_rng(7)
    for view, features in VIEWS.items():
        names = [f"{view}_f{n}" for n in range(features)]
        file = Path(folder) / f"{view}.parquet"
        pandas.DataFrame({"id": pandas.Series(dtype="int64"), "at": pandas.Series(dtype="datetime64[us, UTC]")}).to_parquet(file)
        source = FileSource(name=view, path=str(file), timestamp_field="at")
        schema = [Field(name=name, dtype=Float64) for name in names]
        store.apply([thing, FeatureView(name=view, entities=[thing], ttl=timedelta(days=1), schema=schema, source=source)])
        for start in range(0, entities, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, entities - start)
            frame = pandas.DataFrame(random.random((count, features)), columns=names)
            frame.insert(0, "id", range(start, start + count))
            frame.insert(1, "at", when)
            store.write_to_online_store(view, frame)
    serve = ["-h", "127.0.0.1", "-p", str(port), "--no-access-log", "--workers", "1", "--max-requests", "100000000"]
    os.execv(sys.executable, [sys.executable, "-m", "feast.cli.cli", "--chdir", folder, "serve", *serve])


if __name__ == "__main__":
    folder, entities, port = sys.argv[1:]
    main(folder, int(entities), int(port))
