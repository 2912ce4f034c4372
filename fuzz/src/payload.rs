//! Payloads: the cheap check, and then the decoder, which must take whatever the check lets through.

use std::sync::{Arc, LazyLock};

use zeugma_schemas::{
    avro::MARKER,
    batch::{Builder, Origin},
    dead_letter::{self, DeadLetter},
    domain::{Domain, Domains},
    payload::{Reading, Rejected, readings},
};

/// When every payload arrives: in 2026.
pub(super) const NOW_US: i64 = 1_790_000_000_000_000;

/// Rows that are compared with those that their readings make alone.
const COMPARED_MAX: usize = 4;

/// The five domains, of which one has grown, so that an older version is read through a newer one.
static DOMAINS: LazyLock<Domains> = LazyLock::new(|| {
    let mut domains = Domains::builtin();
    let parking = domains.get("parking").expect("a domain").newest().text.clone();
    let field = r#"{"name": "barrier_open", "type": ["null", "boolean"], "default": null},"#;
    let grown =
        parking.replace(r#"{"name": "temperature_c""#, &format!(r#"{field} {{"name": "temperature_c""#));
    domains.add(&grown).expect("it only grows").expect("it is new");
    domains
});

/// Any bytes as Avro frames, whatever the domain. The marker stands before bytes that lack it.
pub fn avro(bytes: &[u8]) {
    match bytes.first() {
        Some(first) if *first == MARKER[0] => check_all(bytes),
        _ => check_all(&[&MARKER[..], bytes].concat()),
    }
}

/// Any bytes as JSON, whatever the domain.
pub fn json(bytes: &[u8]) {
    check_all(bytes);
}

fn check_all(payload: &[u8]) {
    DOMAINS.iter().for_each(|domain| check(domain, payload));
}

fn check(domain: &Arc<Domain>, payload: &[u8]) {
    let found = readings(domain, payload, NOW_US);
    check_places(payload, &found);
    let letters: Vec<_> = found.iter().filter_map(|reading| reading.as_ref().err()).map(letter).collect();
    let letters_batch = dead_letter::to_batch(&letters).expect("dead letters fit their columns");
    assert_eq!(letters_batch.num_rows(), letters.len());
    let good: Vec<_> = found.iter().flatten().collect();
    if good.is_empty() {
        return;
    }
    let mut builder = Builder::new(domain.clone());
    good.iter().for_each(|reading| builder.push(ORIGIN, reading));
    let rows = builder.finish().expect("the decoder takes what the check lets through");
    assert_eq!((rows.num_rows(), rows.schema_ref()), (good.len(), domain.columns()));
    for (row, reading) in good.iter().enumerate().take(COMPARED_MAX) {
        check_alone(domain, reading);
        let mut alone = Builder::new(domain.clone());
        alone.push(ORIGIN, reading);
        assert_eq!(rows.slice(row, 1), alone.finish().expect("it was decoded before"), "a neighbour shows");
    }
}

const ORIGIN: Origin<'static> = Origin { tenant: "lamia", device: "d-1", received_at_us: NOW_US };

/// Readings and rejections are numbered, and lie in the payload one behind the other; of Avro nothing is left out.
fn check_places(payload: &[u8], found: &[Result<Reading<'_>, Rejected<'_>>]) {
    let avro = payload.first() == Some(&MARKER[0]);
    let start = payload.as_ptr().addr();
    let mut end = 0;
    for (index, reading) in found.iter().enumerate() {
        let (number, bytes) = match reading {
            Ok(reading) => (reading.index, reading.bytes),
            Err(rejected) => (rejected.index, rejected.bytes),
        };
        assert_eq!(number as usize, index);
        let at = bytes.as_ptr().addr() - start;
        assert!(at >= end, "it begins within the one before");
        assert!(!avro || at == end, "bytes between two frames are lost");
        end = at + bytes.len();
        assert!(end <= payload.len());
    }
    assert!(!found.is_empty() && (!avro || end == payload.len()));
}

/// A reading's own bytes say the same again: that is how a dead letter is judged a second time.
fn check_alone(domain: &Domain, reading: &Reading<'_>) {
    let again = readings(domain, reading.bytes, NOW_US + i64::from(reading.index));
    let [Ok(again)] = &again[..] else { panic!("{reading:?} alone is {again:?}") };
    assert_eq!((again.time_us, again.timed), (reading.time_us, reading.timed));
    assert_eq!(again.content, reading.content);
}

fn letter(rejected: &Rejected<'_>) -> DeadLetter {
    DeadLetter {
        tenant: None,
        topic: "city/v1/lamia/fleet/d-1".into(),
        received_at_us: NOW_US,
        reason: rejected.reason,
        detail: rejected.detail.clone(),
        payload: rejected.bytes.to_vec(),
        payload_bytes: rejected.bytes.len() as i64,
        source: "s".into(),
        position: 1,
        index: rejected.index.into(),
    }
}
