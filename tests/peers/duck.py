"""Asks a Delta table of a lake by other engines: deltalake (PyPI) lists its files, DuckDB reads them.

    duck.py LAKE_DIR TABLE "SQL" [--version N]

LAKE_DIR/TABLE is the table's folder; the SQL sees it as a view named TABLE, the partition column `date` included.
Out: a JSON array of rows as objects; times as RFC 3339 in UTC, other values that JSON lacks as text.
"""

import argparse
import datetime
import decimal
import json
import os
import sys
import urllib.parse
from pathlib import Path

import deltalake
import duckdb


def local_path(uri):
    """The path of a file's URI; deltalake percent-encodes some and gives bare paths of others."""
    parts = urllib.parse.urlparse(uri)
    if parts.scheme == "file":
        return urllib.parse.unquote(parts.path)
    if parts.scheme:
        sys.exit(f"{uri}: only local files are read")
    return uri if Path(uri).exists() else urllib.parse.unquote(uri)


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def identifier(name):
    return '"' + name.replace('"', '""') + '"'


def empty_view(connection, table, delta):
    """A table without files still has its columns."""
    import pyarrow

    # DuckDB keeps a reference to the registered table, so it lives as long as the connection.
    schema = pyarrow.schema(delta.schema().to_arrow())
    connection.register(table, schema.empty_table())


def register(connection, table, delta, folder):
    # Paths relative to the table: folders above it that look like name=value are no partitions of it.
    os.chdir(folder)
    files = [os.path.relpath(local_path(uri), folder) for uri in delta.file_uris()]
    if not files:
        empty_view(connection, table, delta)
        return
    partitions = delta.metadata().partition_columns
    types = ", ".join(f"{quoted(column)}: 'DATE'" for column in partitions if column == "date")
    options = "union_by_name = true, hive_partitioning = " + ("true" if partitions else "false")
    if types:
        options += f", hive_types = {{{types}}}"
    names = ", ".join(quoted(path) for path in files)
    # The table's own columns in its order: DuckDB would put the partition column last.
    columns = ", ".join(identifier(field.name) for field in delta.schema().fields)
    connection.execute(
        f"CREATE VIEW {identifier(table)} AS SELECT {columns} FROM read_parquet([{names}], {options})"
    )


def plain(value):
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        return value.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return str(value)
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lake", type=Path)
    parser.add_argument("table")
    parser.add_argument("sql")
    parser.add_argument("--version", type=int)
    args = parser.parse_args()
    folder = (args.lake / args.table).resolve()
    delta = deltalake.DeltaTable(str(folder), version=args.version)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    register(connection, args.table, delta, folder)
    answer = connection.execute(args.sql)
    names = [column[0] for column in answer.description]
    rows = [dict(zip(names, map(plain, row))) for row in answer.fetchall()]
    json.dump(rows, sys.stdout, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
