"""Turns the wide weeks of quarter-hourly consumption into readings: device,time,energy_import_wh,active_power_w.

    prepare_swiss.py elcons_15min_w44.csv.gz … elcons_15min_w47.csv.gz --out swiss.csv

In:  `VID,V001,…,V672`, one household per line, kWh per quarter of an hour, one file per week; the week of the
     year is the number after `_w` in the file's name.
Out: one line per household and quarter of an hour, in order of time, times in UTC.

Decisions, since the files name no dates:
- The weeks are ISO weeks of --year (2018) that begin on Monday 00:00 Europe/Zurich.
- V001 is the interval from 00:00 to 00:15. Its reading is taken at its end, 00:15, as a meter would.
- The counter begins at 0 Wh before the first interval of the first file and runs on over the weeks. There is no
  reading of that 0: n intervals give n readings.
- active_power_w is the mean of the interval: Wh divided by a quarter of an hour.
- A negative value is kept: the counter falls by it and the power is negative, as the meter said.
- An empty cell or `NA` gives no reading: the meter said nothing, and the counter stands still.
- Arithmetic is decimal and exact; no value is rounded.
"""

import argparse
import csv
import gzip
import re
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

INTERVAL = timedelta(minutes=15)
INTERVALS = 7 * 24 * 4
COLUMNS = ["VID"] + [f"V{number:03}" for number in range(1, INTERVALS + 1)]
WH_PER_KWH = 1000
INTERVALS_PER_HOUR = 4


def open_text(path):
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8", newline="")


def week_of(path):
    match = re.search(r"_w(\d{1,2})\.", path.name)
    if not match:
        sys.exit(f"{path}: no week in the name (…_w44.csv)")
    return int(match.group(1))


def week_start(year, week, zone):
    """The week's first moment in UTC."""
    return datetime.fromisocalendar(year, week, 1).replace(tzinfo=zone).astimezone(timezone.utc)


def read_week(path):
    """The households of one file, in file order, with their values as text."""
    with open_text(path) as file:
        lines = csv.reader(file)
        header = next(lines)
        if header != COLUMNS:
            sys.exit(f"{path}: columns are not VID,V001,…,V{INTERVALS}")
        return [(line[0], line[1:]) for line in lines]


def plain(number):
    """A decimal without exponent and without zeros at its end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def write_week(out, households, start, counters):
    for index in range(INTERVALS):
        time = (start + INTERVAL * (index + 1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for device, values in households:
            if values[index] in ("", "NA"):
                continue
            energy_wh = Decimal(values[index]) * WH_PER_KWH
            counters[device] = counters.get(device, Decimal(0)) + energy_wh
            power_w = energy_wh * INTERVALS_PER_HOUR
            out.writerow((device, time, plain(counters[device]), plain(power_w)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--year", type=int, default=2018)
    parser.add_argument("--zone", default="Europe/Zurich")
    args = parser.parse_args()
    zone = ZoneInfo(args.zone)
    counters = {}
    with open(args.out, "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("device", "time", "energy_import_wh", "active_power_w"))
        for path in sorted(args.files, key=week_of):
            write_week(out, read_week(path), week_start(args.year, week_of(path), zone), counters)


if __name__ == "__main__":
    main()
