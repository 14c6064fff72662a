"""DuckDB's ASOF JOIN and Polars' join_asof over the same files: Parquet in, Parquet out, with all cores.

    peers.py duckdb|polars DIR OUT VIEWS

VIEWS is JSON: per view its file, keys, number of features and time to live in days (0: none). Prints what the join took, as JSON;
importing the library is not counted.
"""

import json
import os
import resource
import sys
import time


def usage():
    return resource.getrusage(resource.RUSAGE_SELF)


def duckdb_join(spine, views, out):
    import duckdb

    def run():
        connection = duckdb.connect()
        # Nobody asks DuckDB for the spine's order; without that promise it is faster.
        connection.execute("SET preserve_insertion_order = false")
        columns, joins = ["s.*"], []
        for view in views:
            name = view["name"]
            for n in range(view["features"]):
                value = f"{name}.f{n}"
                if view["ttl_days"]:
                    young = f"{name}.event_timestamp >= s.event_timestamp - INTERVAL {view['ttl_days']} DAY"
                    value = f"CASE WHEN {young} THEN {value} END"
                columns.append(f"{value} AS {name}__f{n}")
            keys = " AND ".join(f"s.{key} = {name}.{key}" for key in view["keys"])
            joins.append(
                f"ASOF LEFT JOIN read_parquet('{view['file']}') {name}"
                f" ON {keys} AND s.event_timestamp >= {name}.event_timestamp"
            )
        select = f"SELECT {', '.join(columns)} FROM read_parquet('{spine}') s {' '.join(joins)}"
        connection.execute(f"COPY ({select}) TO '{out}' (FORMAT parquet, COMPRESSION snappy)")

    return run, duckdb.__version__


def polars_join(spine, views, out):
    import polars

    def run():
        joined = polars.scan_parquet(spine).sort("event_timestamp")
        for view in views:
            names = {f"f{n}": f"{view['name']}__f{n}" for n in range(view["features"])}
            right = polars.scan_parquet(view["file"]).rename(names).sort("event_timestamp")
            joined = joined.join_asof(
                right,
                on="event_timestamp",
                by=view["keys"],
                strategy="backward",
                tolerance=f"{view['ttl_days']}d" if view["ttl_days"] else None,
                check_sortedness=False,
            )
        joined.sink_parquet(out, compression="snappy")

    return run, polars.__version__


def main():
    who, directory, out, views = sys.argv[1:]
    views = json.loads(views)
    spine = os.path.join(directory, "spine.parquet")
    join, version = {"duckdb": duckdb_join, "polars": polars_join}[who](spine, views, out)
    before, started = usage(), time.monotonic()
    join()
    wall, after = time.monotonic() - started, usage()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mib": after.ru_maxrss / 1024, "version": version}))


if __name__ == "__main__":
    main()
