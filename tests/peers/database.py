"""Answers SQL that comes line by line: DuckDB or ClickHouse (chdb), from PyPI, with tables in a folder.

    database.py duckdb|clickhouse FOLDER

In:  {"sql": "…", "wanted": true}
Out: {"ms": 1.5, "columns": [[…], …]}, columns only where wanted; or {"ms": 0, "error": "…"}. Times come as
     microseconds, dates as days since 1970.
"""

import json
import os
import sys
import time

import pyarrow

CORES = os.cpu_count()


def duckdb_asker(folder):
    import duckdb

    connection = duckdb.connect(folder + ".db")
    connection.execute(f"SET threads = {CORES}")
    connection.execute("SET memory_limit = '8GB'")
    connection.execute("SET TimeZone = 'UTC'")

    def ask(sql):
        answer = connection.sql(sql)
        return answer.to_arrow_table() if answer else None

    return ask, lambda _, table: table


def clickhouse_asker(folder):
    from chdb import session

    connection = session.Session(folder)
    connection.query(f"SET max_threads = {CORES}")
    connection.query("SET output_format_arrow_string_as_string = 1")
    connection.query("SET output_format_arrow_compression_method = 'none'")
    # A result may be called like a column of the table.
    connection.query("SET prefer_column_name_to_alias = 1")

    def ask(sql):
        bytes_of = connection.query(sql, "Arrow").bytes()
        return pyarrow.ipc.open_file(bytes_of).read_all() if bytes_of else None

    def with_times(sql, table):
        # Whole seconds come as bare numbers.
        kinds = connection.query(f"DESCRIBE ({sql})", "TSV").data().splitlines()
        for number, kind in enumerate(line.split("\t")[1] for line in kinds):
            if kind.startswith("DateTime("):
                seconds = table.column(number).cast(pyarrow.int64()).cast(pyarrow.timestamp("s", tz="UTC"))
                table = table.set_column(number, table.field(number).name, seconds)
        return table

    return ask, with_times


def plain(column):
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pyarrow.types.is_timestamp(kind):
        column = column.cast(pyarrow.timestamp("us", tz=kind.tz)).cast(pyarrow.int64())
    elif pyarrow.types.is_date(kind):
        column = column.cast(pyarrow.date32()).cast(pyarrow.int32())
    elif pyarrow.types.is_decimal(kind):
        column = column.cast(pyarrow.float64())
    return column.to_pylist()


def main():
    name, folder = sys.argv[1:]
    ask, with_times = {"duckdb": duckdb_asker, "clickhouse": clickhouse_asker}[name](folder)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            started = time.perf_counter()
            table = ask(question["sql"])
            reply = {"ms": (time.perf_counter() - started) * 1000}
            if question["wanted"]:
                table = with_times(question["sql"], table) if table else None
                reply["columns"] = [plain(column) for column in table.columns] if table else []
        except Exception as error:
            reply = {"ms": 0, "error": str(error)}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
