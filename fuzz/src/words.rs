//! Topics and schemas: what devices and operators write.

use zeugma_schemas::{
    avro::MARKER,
    batch::{Builder, Origin},
    domain::{Domain, Domains},
    limits::{DOMAIN_LEN_MAX, ID_LEN_MAX, TOPIC_LEN_MAX},
    payload::readings,
    schema::{Field, Kind, Schema},
    topic::Topic,
};

use super::payload::NOW_US;

/// A topic comes apart exactly where its rules, said once more, allow it, and together again.
pub fn topic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parts: Vec<&str> = text.split('/').collect();
    let wanted = match parts[..] {
        ["city", "v1", tenant, domain, device] => id(tenant) && name(domain) && id(device),
        _ => false,
    };
    let found = Topic::parse(text);
    assert_eq!(found.is_some(), wanted, "{text:?}");
    if let Some(topic) = found {
        assert_eq!(topic.to_string(), text);
        assert!(text.len() <= TOPIC_LEN_MAX);
    }
}

fn id(text: &str) -> bool {
    let allowed = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-');
    !text.is_empty() && text.len() <= ID_LEN_MAX && text.chars().all(allowed)
}

fn name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_ascii_lowercase())
        && text.len() <= DOMAIN_LEN_MAX
        && chars.all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'))
}

/// A schema that is taken can be used: a reading written with it is accepted and decoded.
pub fn schema(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    Domains::builtin().add(text).ok();
    let Ok(schema) = Schema::parse(text) else { return };
    let domain = Domain::new(schema);
    let again = Schema::parse(text).expect("it was taken before");
    assert!(matches!(domain.grow(again), Ok(None)), "a schema grows out of itself");
    let payload = [reading(domain.newest(), false), reading(domain.newest(), true)].concat();
    let found = readings(&domain, &payload, NOW_US);
    assert_eq!(found.len(), 2, "{found:?}");
    let mut builder = Builder::new(domain.clone().into());
    for reading in &found {
        let reading = reading.as_ref().expect("a reading of that schema");
        builder.push(Origin { tenant: "t", device: "d", received_at_us: NOW_US }, reading);
    }
    let rows = builder.finish().expect("the decoder takes what the check lets through");
    assert_eq!((rows.num_rows(), rows.schema_ref()), (2, domain.columns()));
}

/// A frame of the schema: zeros for what must be there, and for the rest if wanted.
fn reading(schema: &Schema, optional: bool) -> Vec<u8> {
    let mut frame = [&MARKER[..], &schema.fingerprint.to_le_bytes()].concat();
    for field in &schema.fields {
        match (field.required, optional) {
            (true, _) => value(field, &mut frame),
            (false, false) => frame.push(0),
            (false, true) => {
                frame.push(2);
                value(field, &mut frame);
            }
        }
    }
    frame
}

fn value(field: &Field, frame: &mut Vec<u8>) {
    let zeros = match field.kind {
        Kind::Time => return varint((NOW_US as u64) << 1, frame),
        Kind::Float => 4,
        Kind::Double => 8,
        Kind::Boolean | Kind::Int | Kind::Long | Kind::Text => 1,
    };
    frame.extend(std::iter::repeat_n(0, zeros));
}

fn varint(mut rest: u64, frame: &mut Vec<u8>) {
    while rest >= 0x80 {
        frame.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    frame.push(rest as u8);
}
