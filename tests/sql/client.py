"""Asks a server in SQL through ADBC's Flight SQL driver, and prints what it saw as JSON.

client.py URI all | client.py URI guarded TOKEN
"""

import json
import sys

import adbc_driver_flightsql.dbapi as flightsql
from adbc_driver_flightsql import DatabaseOptions

HEADER = DatabaseOptions.AUTHORIZATION_HEADER.value


def rows(cursor, sql, parameters=None):
    cursor.execute(sql, parameters)
    return [[cell.isoformat() if hasattr(cell, "isoformat") else cell for cell in row] for row in cursor.fetchall()]


def refusal(work):
    try:
        work()
    except flightsql.Error as error:
        return str(error)
    return "nothing was refused"


def everything(uri):
    seen = {}
    with flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        seen["count"] = rows(cursor, "SELECT count(*), count(*) - count(at) FROM sources.events")
        seen["sum"] = rows(cursor, "SELECT sum(x) FROM sources.events")
        seen["view"] = rows(
            cursor, "SELECT who, event_timestamp, level FROM features.last ORDER BY event_timestamp DESC LIMIT 1"
        )
        cursor.execute("SELECT tags FROM sources.events WHERE id = 1")
        seen["list"] = cursor.fetch_arrow_table()["tags"].to_pylist()
        seen["bound"] = rows(
            cursor,
            "SELECT min(id), max(id) FROM sources.events WHERE who = ? AND id < ?",
            ("w2", 100),
        )
        seen["runs"] = rows(
            cursor,
            "SELECT r.run_id, r.name, p.key, p.value, m.value FROM runs r JOIN params p USING (run_id)"
            " JOIN latest_metrics m USING (run_id) WHERE m.key = 'auc'",
        )
        seen["points"] = rows(cursor, "SELECT count(*), max(step) FROM metrics WHERE key = 'auc'")
        cursor.execute("SELECT * FROM generate_series(1, 200000)")
        with cursor.fetch_record_batch() as reader:
            seen["chunks"] = sum(batch.num_rows for batch in reader)

        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        schemas = objects[0]["catalog_db_schemas"]
        seen["schemas"] = [schema["db_schema_name"] for schema in schemas]
        seen["tables"] = {
            schema["db_schema_name"]: [table["table_name"] for table in schema["db_schema_tables"]]
            for schema in schemas
        }
        seen["columns"] = connection.adbc_get_table_schema("last", db_schema_filter="features").names
        seen["vendor"] = connection.adbc_get_info()["vendor_name"]
        seen["refused"] = {
            sql: refusal(lambda sql=sql: rows(cursor, sql))
            for sql in [
                "DELETE FROM sources.events",
                "CREATE TABLE mine AS SELECT 1",
                "SELECT nothing FROM sources.events",
                "SELECT ?",
            ]
        }
    return seen


def guarded(uri, token):
    def one(options):
        with flightsql.connect(uri, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
            return rows(cursor, "SELECT 1")

    return {
        "with": one({HEADER: f"Bearer {token}"}),
        "without": refusal(lambda: one({})),
        "wrong": refusal(lambda: one({HEADER: "Bearer mp_wrong"})),
    }


if __name__ == "__main__":
    uri, what, *more = sys.argv[1:]
    print(json.dumps(everything(uri) if what == "all" else guarded(uri, *more)))
