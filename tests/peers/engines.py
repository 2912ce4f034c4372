"""Reads a Delta table of a lake by engines that know nothing of us: deltalake, Polars, DuckDB (all from PyPI).

    engines.py LAKE_DIR TABLE COLUMN...

Out: a JSON object; for each engine the rows of these columns in the order of the columns, times as microseconds
since 1970.
"""

import datetime
import json
import sys
from pathlib import Path

import deltalake
import duckdb
import polars

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def plain(value):
    if isinstance(value, datetime.datetime):
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    return value


def ordered(rows):
    rows = [[plain(value) for value in row] for row in rows]
    return sorted(rows, key=lambda row: [(value is not None, value) for value in row])


def by_deltalake(folder, columns):
    table = deltalake.DeltaTable(folder).to_pyarrow_table(columns=columns)
    return zip(*(table.column(name).to_pylist() for name in columns))


def by_polars(folder, columns):
    return polars.scan_delta(folder).select(columns).collect().iter_rows()


def by_duckdb(folder, columns):
    rows = deltalake.DeltaTable(folder).to_pyarrow_dataset()
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("rows", rows)
    return connection.execute(f"SELECT {', '.join(columns)} FROM rows").fetchall()


def main():
    lake, table, *columns = sys.argv[1:]
    folder = str((Path(lake) / table).resolve())
    engines = {"deltalake": by_deltalake, "polars": by_polars, "duckdb": by_duckdb}
    json.dump({name: ordered(read(folder, columns)) for name, read in engines.items()}, sys.stdout)


if __name__ == "__main__":
    main()
