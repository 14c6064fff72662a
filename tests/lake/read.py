"""Reads an offline table with other people's programs, and prints what each of them sees as JSON.

read.py LOCATION OPTIONS: the table's folder or s3:// address, and storage options as a JSON object.
"""

import json
import sys

import duckdb
import polars
from deltalake import DeltaTable

COLUMNS = ["_row", "id", "who", "x", "note", "_replaces"]


def main(location, options):
    table = DeltaTable(location, storage_options=options)
    names = [field.name for field in table.schema().fields]
    columns = [name for name in COLUMNS if name in names]
    seen = {"version": table.version(), "columns": names, "partitions": table.metadata().partition_columns}

    frame = polars.scan_delta(location, storage_options=options).select([*columns, "event_date"]).sort("_row").collect()
    seen["days"] = sorted({str(day) for day in frame["event_date"]})
    seen["polars"] = frame.select(columns).rows()
    if not frame.is_empty():
        first = polars.col("event_date") == frame["event_date"].min()
        of_day = polars.scan_delta(location, storage_options=options).filter(first)
        seen["first_day"] = of_day.select(polars.len()).collect().item()

    if not location.startswith("s3://"):
        # DuckDB's own reader of Delta tables is an extension that it fetches at run time; the files it would read are
        # these.
        query = "SELECT {} FROM read_parquet($files, hive_partitioning = true, union_by_name = true) ORDER BY _row"
        files = table.file_uris()
        rows = duckdb.execute(query.format(", ".join(columns)), {"files": files}).fetchall() if files else []
        seen["duckdb"] = rows
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
