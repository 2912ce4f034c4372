//! An inspection on the screen, or as JSON.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use zeugma_journal::{
    Payload, Position, Record, Synced,
    inspect::{Fault, Segment},
};

use super::report::Report;

/// How much of a payload stands on a line, if it is JSON.
const TEXT_CHARS: usize = 120;

/// How much of it otherwise.
const HEX_BYTES: usize = 24;

/// One line for each record.
pub fn records(out: &mut impl Write, block: &Synced, json: bool) -> io::Result<()> {
    for (position, record) in block.records() {
        match json {
            true => writeln!(out, "{}", record_json(position, &record))?,
            false => writeln!(out, "{}", record_text(position, &record))?,
        }
    }
    Ok(())
}

fn record_text(position: Position, record: &Record<'_>) -> String {
    let (kept, bytes) = kept(&record.payload);
    let payload = match text(kept) {
        Some(text) => text.chars().take(TEXT_CHARS).collect(),
        None => hex(&kept[..kept.len().min(HEX_BYTES)]),
    };
    let time = time(record.received_at_us);
    let tenant = record.tenant.unwrap_or("-");
    plain(&format!("{position} {time} {tenant} {} {bytes} {payload}", record.topic))
}

fn record_json(position: Position, record: &Record<'_>) -> Value {
    let (kept, bytes) = kept(&record.payload);
    let mut line = json!({
        "position": position,
        "received_at": time(record.received_at_us),
        "tenant": record.tenant,
        "topic": record.topic,
        "payload_bytes": bytes,
    });
    match text(kept) {
        Some(text) => line["payload"] = text.into(),
        None => line["payload_hex"] = hex(kept).into(),
    }
    if let Payload::Cut { sha256, .. } = &record.payload {
        line["cut_from_sha256"] = hex(sha256).into();
    }
    if let Payload::Again { note, .. } = &record.payload {
        line["comes_again"] = (*note).into();
    }
    line
}

/// What is there of a payload, and how long it was.
fn kept<'a>(payload: &Payload<'a>) -> (&'a [u8], u64) {
    match payload {
        Payload::Whole(kept) => (kept, kept.len() as u64),
        Payload::Cut { kept, bytes, .. } => (kept, *bytes),
        Payload::Again { bytes, .. } => (bytes, bytes.len() as u64),
    }
}

/// A payload as text, if it looks like JSON.
fn text(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    matches!(text.trim_ascii_start().as_bytes().first(), Some(b'{' | b'[')).then_some(text)
}

/// Everything as one JSON object on a line.
pub fn json(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let counts = report
        .counts
        .iter()
        .map(|((tenant, domain), records)| json!({ "tenant": tenant, "domain": domain, "records": records }));
    let whole = json!({
        "source": report.source,
        "records": report.records,
        "first": report.positions.map(|(first, _)| first),
        "last": report.positions.map(|(_, last)| last),
        "next": report.next(),
        "oldest_received_at": report.received_at_us.map(|(oldest, _)| time(oldest)),
        "newest_received_at": report.received_at_us.map(|(_, newest)| time(newest)),
        "segments": report.segments.iter().map(segment_json).collect::<Vec<_>>(),
        "torn": report.torn().map(fault_json),
        "damages": report.damages().map(fault_json).collect::<Vec<_>>(),
        "counts": counts.collect::<Vec<_>>(),
    });
    writeln!(out, "{whole}")
}

fn segment_json(segment: &Segment) -> Value {
    json!({
        "file": segment.path.display().to_string(),
        "first": segment.first,
        "records": segment.records,
        "bytes": segment.bytes,
        "format": segment.format,
    })
}

fn fault_json((segment, fault): (&Segment, &Fault)) -> Value {
    json!({
        "file": segment.path.display().to_string(),
        "at": fault.at,
        "bytes": fault.bytes,
        "problem": fault.problem,
        "records_lost": fault.records_lost,
    })
}

/// Everything for people.
pub fn text_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "source     {}", plain(report.source.as_deref().unwrap_or("(none yet)")))?;
    writeln!(out, "records    {}", report.records)?;
    let next = report.next().unwrap_or(1);
    match report.positions {
        Some((first, last)) => writeln!(out, "positions  {first} to {last}, the next is {next}")?,
        None => writeln!(out, "positions  none here, the next is {next}")?,
    }
    if let Some((oldest, newest)) = report.received_at_us {
        writeln!(out, "received   {} to {}", time(oldest), time(newest))?;
    }
    if let Some((segment, fault)) = report.torn() {
        let what = "never synced, or being written just now";
        writeln!(out, "torn end   {} bytes of {}, {what}", fault.bytes, segment.path.display())?;
    }
    for (segment, fault) in report.damages() {
        let Fault { at, bytes, problem, records_lost, .. } = fault;
        let file = segment.path.display();
        writeln!(out, "DAMAGE     {file} at byte {at}: {problem}; {bytes} bytes, {records_lost} records")?;
    }
    writeln!(out, "\n{:<32} {:>12} {:>10} {:>12} {:>6}", "segment", "first", "records", "bytes", "format")?;
    for Segment { path, bytes, format, first, records, .. } in &report.segments {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let format = format.map_or("-".to_owned(), |format| format.to_string());
        writeln!(out, "{name:<32} {first:>12} {records:>10} {bytes:>12} {format:>6}")?;
    }
    writeln!(out, "\n{:<32} {:<24} {:>10}", "tenant", "domain", "records")?;
    for ((tenant, domain), records) in &report.counts {
        writeln!(out, "{:<32} {:<24} {records:>10}", plain(tenant), plain(domain))?;
    }
    Ok(())
}

/// Texts from outside must not speak to the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn time(us: i64) -> String {
    match DateTime::from_timestamp_micros(us) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => format!("{us} us"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
