"""The latest row of each box by DuckDB and Polars: Parquet in, bad rows left out, Parquet out, with all cores.

    peers.py duckdb|polars FILE OUT

Prints what it took, as JSON; importing the library is not counted. Neither keeps what it read, knows a row again, or
serves anything: it is one step of what a feature store does with the file.
"""

import json
import resource
import sys
import time


def usage():
    return resource.getrusage(resource.RUSAGE_SELF)


def duckdb_latest(source, out):
    import duckdb

    def run():
        connection = duckdb.connect()
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(
            f"COPY (SELECT * FROM read_parquet('{source}') WHERE event_time IS NOT NULL AND isfinite(snr_db)"
            " QUALIFY row_number() OVER (PARTITION BY device_id ORDER BY event_time DESC, seq DESC) = 1)"
            f" TO '{out}' (FORMAT parquet, COMPRESSION zstd)"
        )

    return run, duckdb.__version__


def polars_latest(source, out):
    import polars

    def run():
        rows = polars.read_parquet(source)
        rows = rows.filter(polars.col("event_time").is_not_null() & polars.col("snr_db").is_finite())
        rows = rows.sort("device_id", "event_time", "seq").unique("device_id", keep="last", maintain_order=True)
        rows.write_parquet(out, compression="zstd", compression_level=1)

    return run, polars.__version__


def main():
    who, source, out = sys.argv[1:]
    latest, version = {"duckdb": duckdb_latest, "polars": polars_latest}[who](source, out)
    before, started = usage(), time.monotonic()
    latest()
    wall, after = time.monotonic() - started, usage()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mib": after.ru_maxrss / 1024, "version": version}))


if __name__ == "__main__":
    main()
