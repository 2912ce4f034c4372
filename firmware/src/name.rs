//! The names under which a device is known to the broker: its topics and its client id.

use core::fmt::Write;

use zeugma_schemas::{limits::TOPIC_LEN_MAX, topic::Topic};

/// Longest client id that minimq holds.
pub(crate) const CLIENT_ID_LEN_MAX: usize = 64;

/// A topic as text.
pub(crate) type TopicText = heapless::String<TOPIC_LEN_MAX>;

/// The topic of one domain of the device; names are valid ids.
pub(crate) fn topic(tenant: &str, domain: &str, device: &str) -> TopicText {
    let mut text = TopicText::new();
    write!(text, "{}", Topic { tenant, domain, device }).expect("three valid names fit a topic");
    text
}

/// `tenant:device`; where that is too long for a client id, its beginning and a hash of all of it.
///
/// No id holds a colon, so two devices never share one, short of a collision of 64 bits.
pub(crate) fn client_id(tenant: &str, device: &str) -> heapless::String<CLIENT_ID_LEN_MAX> {
    let mut id = heapless::String::new();
    if write!(id, "{tenant}:{device}").is_err() {
        id.clear();
        let hash = [tenant, ":", device].iter().flat_map(|part| part.bytes()).fold(FNV_OFFSET, fnv1a);
        let begin = &tenant[..tenant.len().min(CLIENT_ID_LEN_MAX - 18)];
        write!(id, "{begin}::{hash:016x}").expect("46 + 2 + 16 characters fit");
    }
    id
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv1a(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_give_a_client_id_of_their_own() {
        let long = "x".repeat(64);
        let (one, other) = (client_id(&long, &long), client_id(&long, &long[..63]));
        assert_eq!(client_id("lamia", "bus-001"), "lamia:bus-001");
        assert_eq!((one.len(), other.len()), (64, 64));
        assert_ne!(one, other);
    }

    #[test]
    fn longest_names_fit_a_topic() {
        let long = "x".repeat(64);
        assert!(Topic::parse(&topic(&long, &"d".repeat(48), &long)).is_some());
    }
}
