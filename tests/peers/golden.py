"""Writes Avro single-object payloads that another implementation (fastavro) encoded, for our encoder and decoder.

    golden.py SCHEMAS_DIR

Out: one JSON object per line, {domain, case, values, hex, fingerprint}. `values` names every field of the schema
in its order, null where it is absent, `time` as microseconds; `hex` is the whole payload (C3 01, fingerprint
little-endian, body); `fingerprint` is the CRC-64-AVRO as 16 hexadecimal digits, most significant first.
Cases of each domain: every optional field null; every field set; the least and the greatest values of each
type; and, where there are texts, texts that are not ASCII.
"""

import datetime
import io
import json
import sys
from pathlib import Path

import fastavro
from fastavro.schema import to_parsing_canonical_form, fingerprint

TIME_US = 1_700_000_000_123_456
# The server takes no time before 2000; the greatest one is the last microsecond of the year 9999.
TIME_US_LEAST = 946_684_800_000_000
TIME_US_GREATEST = 253_402_300_799_999_999
EXTREMES = {
    "int": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "double": (-sys.float_info.max, sys.float_info.max),
    "boolean": (False, True),
    "string": ("", "x" * 200),
}
SMALL = {
    "int": (-1, 64),
    "long": (-64, 2**31),
    "double": (-0.0, 5e-324),
    "boolean": (True, False),
    "string": (" ", "\t\"\\"),
}
TEXTS = ["Ζεῦγμα – ὁ λόγος", "é\u0301 ß 東京 🚌", "\u0000 and \u007f", "עִבְרִית"]


def kind_of(field):
    """The field's type without its null, and whether it may be null."""
    kind = field["type"]
    optional = isinstance(kind, list)
    kind = kind[1] if optional else kind
    return (kind["type"] if isinstance(kind, dict) else kind), optional


def reading(schema, time_us, choose):
    values = {}
    for number, field in enumerate(schema["fields"]):
        kind, optional = kind_of(field)
        values[field["name"]] = time_us if field["name"] == "time" else choose(number, kind, optional)
    return values


def ordinary(number, kind, _optional):
    return {
        "int": number + 1,
        "long": 1_000_000 + number,
        "double": number + 0.125,
        "boolean": number % 2 == 0,
        "string": f"v1.2.{number}",
    }[kind]


def cases(schema):
    yield "nulls", reading(schema, TIME_US, lambda *a: None if a[2] else ordinary(*a))
    yield "all", reading(schema, TIME_US, ordinary)
    yield "least", reading(schema, TIME_US_LEAST, lambda _, kind, __: EXTREMES[kind][0])
    yield "greatest", reading(schema, TIME_US_GREATEST, lambda _, kind, __: EXTREMES[kind][1])
    yield "small-negative", reading(schema, TIME_US, lambda _, kind, __: SMALL[kind][0])
    yield "small-positive", reading(schema, TIME_US, lambda _, kind, __: SMALL[kind][1])
    yield "alternating", reading(schema, TIME_US, lambda n, kind, opt: None if opt and n % 2 else ordinary(n, kind, opt))
    if any(kind_of(field)[0] == "string" for field in schema["fields"]):
        for number, text in enumerate(TEXTS):
            yield f"text-{number}", reading(schema, TIME_US, lambda *a, t=text: t if a[1] == "string" else ordinary(*a))


def encode(parsed, digest, values):
    body = io.BytesIO()
    fastavro.schemaless_writer(body, parsed, values)
    check_reads_back(parsed, body.getvalue(), values)
    return b"\xc3\x01" + digest.to_bytes(8, "little") + body.getvalue()


def check_reads_back(parsed, body, values):
    """A golden payload that its own writer cannot read would prove nothing."""
    back = fastavro.schemaless_reader(io.BytesIO(body), parsed)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    back["time"] = (back["time"] - epoch) // datetime.timedelta(microseconds=1)
    assert back == values, (back, values)


def main():
    folder = Path(sys.argv[1])
    for path in sorted(folder.glob("*.avsc")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        parsed = fastavro.parse_schema(schema)
        # fastavro gives the little-endian bytes of the fingerprint, in the order in which they are sent.
        digest = int.from_bytes(bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")), "little")
        for case, values in cases(schema):
            line = {
                "domain": schema["name"],
                "case": case,
                "values": values,
                "hex": encode(parsed, digest, values).hex(),
                "fingerprint": f"{digest:016x}",
            }
            print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
