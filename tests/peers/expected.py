"""Says what a server should hold after a replay: an independent reading of the same files by the written rules.

    expected.py austin|bath|birmingham FILE…
    expected.py swiss PREPARED.csv          (what prepare_swiss.py wrote)
    expected.py … --rows                    one JSON object per reading instead, as it should be published

It shares no code with the program. The rules (docs/replay.md says them for people):
- Spaces and tabs around a cell do not count. An empty cell is no value.
- A cell that is a JSON number is a number, any other is a text. speed_kmh is speed * 3.6 in doubles.
- Times without an offset are Europe/London: of an hour that comes twice the first is meant, a time that the
  clocks skipped is read with the offset from before the jump. Identity counts in microseconds.
- `content`: the time is no time, a required field is missing, a field is of another type (a text or a fraction
  where a whole number belongs), or a number does not fit its type.
- `clock`: before 2000.
- Per device and time the first accepted reading in file order counts; a later equal one is repeated, a later
  different one is rejected as `conflict`. Equal means all mapped fields.
- Answers: sent = accepted + rejected + repeated.
"""

import argparse
import csv
import gzip
import json
import math
import re
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
YEAR_2000_US = 946_684_800_000_000
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
OUTSIDE_ID = re.compile(r"[^a-zA-Z0-9._-]")
LOCAL = {"format": "%Y-%m-%d %H:%M:%S", "zone": "Europe/London"}

# Per data set: the columns, and for each field (column, factor, type, required).
SETS = {
    "austin": {
        "tenant": "austin", "domain": "fleet", "device": "vehicle_id", "time": "timestamp",
        "fields": {
            "latitude": ("latitude", None, float, True),
            "longitude": ("longitude", None, float, True),
            "speed_kmh": ("speed", 3.6, float, False),
        },
    },
    "bath": {
        "tenant": "bath", "domain": "parking", "device": "Name", "time": "LastUpdate", **LOCAL,
        "fields": {
            "occupied_spaces": ("Occupancy", None, int, True),
            "total_spaces": ("Capacity", None, int, False),
        },
    },
    "birmingham": {
        "tenant": "birmingham", "domain": "parking", "device": "SystemCodeNumber", "time": "LastUpdated", **LOCAL,
        "columns": ["SystemCodeNumber", "Capacity", "Occupancy", "LastUpdated"],
        "fields": {
            "occupied_spaces": ("Occupancy", None, int, True),
            "total_spaces": ("Capacity", None, int, False),
        },
    },
    "swiss": {
        "tenant": "basel", "domain": "energy", "device": "device", "time": "time",
        "fields": {
            "energy_import_wh": ("energy_import_wh", None, float, False),
            "active_power_w": ("active_power_w", None, float, False),
        },
    },
}


def read_rows(path, columns):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, fieldnames=columns)


def read_time(text, rules):
    """Microseconds since 1970, or the text where it is no time."""
    try:
        if "zone" in rules:
            time = datetime.strptime(text, rules["format"]).replace(tzinfo=ZoneInfo(rules["zone"]), fold=0)
        else:
            time = datetime.fromisoformat(text)
    except ValueError:
        return text
    if time.tzinfo is None:
        return text
    return (time.astimezone(timezone.utc) - EPOCH) // timedelta(microseconds=1)


def read_value(text, factor):
    stripped = text.strip()
    if stripped in ("true", "false"):
        return stripped == "true"
    if not JSON_NUMBER.fullmatch(stripped) or math.isinf(float(stripped)):
        return text
    if factor is not None:
        product = float(stripped) * factor
        return text if math.isinf(product) else product
    return int(stripped) if re.fullmatch(r"-?[0-9]+", stripped) else float(stripped)


def read_reading(row, rules):
    """Device, time and fields as they should be published."""
    device = OUTSIDE_ID.sub("-", row[rules["device"]])
    time = read_time((row[rules["time"]] or "").strip(), rules)
    fields = {}
    for name, (column, factor, _, _) in rules["fields"].items():
        text = row[column] or ""
        if text.strip():
            fields[name] = read_value(text, factor)
    return device, time, fields


def typed(value, kind):
    """The value as the schema's type, or None where it is not of it."""
    if isinstance(value, (str, bool)):
        return None
    if kind is int:
        return value if isinstance(value, int) and -(2**31) <= value < 2**31 else None
    return float(value) if math.isfinite(float(value)) else None


def accept(time, fields, rules):
    """The reason of a refusal or None, and the fields by their types."""
    if not isinstance(time, int):
        return "content", {}
    values = {}
    for name, (_, _, kind, required) in rules["fields"].items():
        if name in fields:
            values[name] = typed(fields[name], kind)
            if values[name] is None:
                return "content", {}
        elif required:
            return "content", {}
    return ("clock" if time < YEAR_2000_US else None), values


def text_of(time):
    return (EPOCH + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")


def count(readings, rules):
    """Decides every reading in file order; the kept ones and the tally."""
    kept, tally, reasons = {}, Counter(), Counter()
    for device, time, fields in readings:
        tally["sent"] += 1
        reason, values = accept(time, fields, rules)
        if reason is None and (device, time) in kept:
            if kept[device, time] == values:
                tally["repeated"] += 1
                continue
            reason = "conflict"
        if reason:
            reasons[reason] += 1
            continue
        kept[device, time] = values
        tally["accepted"] += 1
    return kept, tally, reasons


def averages_by_day(kept, names):
    days = defaultdict(lambda: defaultdict(list))
    for (_, time), values in kept.items():
        day = (EPOCH + timedelta(microseconds=time)).date().isoformat()
        for name, value in values.items():
            days[day][name].append(value)
    return {
        day: {
            "rows": max(len(values) for values in fields.values()),
            **{name: math.fsum(fields[name]) / len(fields[name]) for name in names if fields.get(name)},
        }
        for day, fields in sorted(days.items())
    }


def newest_by_device(kept):
    newest = {}
    for device, time in kept:
        if device not in newest or time > newest[device]:
            newest[device] = time
    return {device: {"time": text_of(time), **kept[device, time]} for device, time in sorted(newest.items())}


def report(readings, rules):
    kept, tally, reasons = count(readings, rules)
    rejected = sum(reasons.values())
    assert tally["accepted"] + tally["repeated"] + rejected == tally["sent"], "a reading was lost in this program"
    columns = {name: [v[name] for v in kept.values() if name in v] for name in rules["fields"]}
    times = [time for _, time in kept]
    return {
        "tenant": rules["tenant"],
        "domain": rules["domain"],
        "sent": tally["sent"],
        "accepted": tally["accepted"],
        "repeated": tally["repeated"],
        "rejected": {"total": rejected, **{name: reasons[name] for name in ("content", "clock", "conflict")}},
        "devices": len({device for device, _ in kept}),
        "first": text_of(min(times)) if times else None,
        "last": text_of(max(times)) if times else None,
        "counts": {name: len(values) for name, values in columns.items()},
        # fsum is exact; another order of adding may differ in the last digits.
        "sums": {
            name: sum(values) if rules["fields"][name][2] is int else math.fsum(values)
            for name, values in columns.items()
        },
        "averages_by_day": averages_by_day(kept, rules["fields"]),
        "newest": newest_by_device(kept),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rows", action="store_true", help="print each reading as it should be published")
    args = parser.parse_args()
    rules = SETS[args.set]
    rows = (row for path in args.files for row in read_rows(path, rules.get("columns")))
    readings = (read_reading(row, rules) for row in rows)
    if args.rows:
        for device, time, fields in readings:
            topic = f"city/v1/{rules['tenant']}/{rules['domain']}/{device}"
            print(json.dumps({"topic": topic, "payload": {"time": time, **fields}}))
        return
    json.dump(report(readings, rules), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
