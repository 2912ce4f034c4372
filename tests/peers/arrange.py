"""Writes the car parks of Bath in an order of arrival, for tests of late data.

    arrange.py uploaded|newest-first|shuffled [--coarse] --out FILE.csv FILE…

uploaded: in the order in which they arrived at the time (`DateUploaded`).
newest-first: every reading of a car park later than the one before it in the file.
shuffled: by a hash of the row, the same each time.
--coarse: `LastUpdate` is cut to its ten minutes, so that several rows of a car park have one time: equal ones must
become repeats, others conflicts, and which of them is the first depends on the order.

What a server should hold afterwards, `expected.py bath` says of the written file; given twice, of a second replay on top.
"""

import argparse
import csv
import gzip
import hashlib
from pathlib import Path

COLUMNS = ("Name", "LastUpdate", "DateUploaded", "Occupancy", "Capacity")
ORDERS = {
    "uploaded": (lambda row: row["DateUploaded"], False),
    "newest-first": (lambda row: row["LastUpdate"], True),
    "shuffled": (lambda row: hashlib.sha256("|".join(row[column] for column in COLUMNS).encode()).digest(), False),
}


def read_rows(path):
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            yield {column: row[column] for column in COLUMNS}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("order", choices=ORDERS)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--coarse", action="store_true")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    key, reverse = ORDERS[args.order]
    rows = sorted((row for path in args.files for row in read_rows(path)), key=key, reverse=reverse)
    with open(args.out, "w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, COLUMNS)
        out.writeheader()
        for row in rows:
            if args.coarse:
                row["LastUpdate"] = row["LastUpdate"][:15] + "0:00"
            out.writerow(row)


if __name__ == "__main__":
    main()
