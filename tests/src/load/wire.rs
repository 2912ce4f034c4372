//! As much of MQTT 3.1.1 as publishing at QoS 1 needs, on bytes alone.

/// The type of a PUBLISH at QoS 1.
const PUBLISH_QOS_1: u8 = 0x32;

/// What the other side says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// CONNACK with its return code; 0 is welcome.
    Connected(u8),
    /// PUBACK of a packet.
    Acknowledged(u16),
    /// Anything else.
    Other,
}

/// Appends a CONNECT with a clean session and no keep-alive.
pub fn connect(client_id: &str, out: &mut Vec<u8>) {
    out.push(0x10);
    length(10 + 2 + client_id.len(), out);
    out.extend_from_slice(b"\x00\x04MQTT\x04\x02\x00\x00");
    out.extend_from_slice(&(client_id.len() as u16).to_be_bytes());
    out.extend_from_slice(client_id.as_bytes());
}

/// Appends a PUBLISH at QoS 1.
pub fn publish(packet_id: u16, topic: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    out.push(PUBLISH_QOS_1);
    length(2 + topic.len() + 2 + payload.len(), out);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic);
    out.extend_from_slice(&packet_id.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Reads the packet at the beginning of some bytes, and how long it is; `None` where it is not whole.
pub fn hear(bytes: &[u8]) -> Option<(Heard, usize)> {
    if let [0x40, 0x02, high, low, ..] = bytes {
        return Some((Heard::Acknowledged(u16::from_be_bytes([*high, *low])), 4));
    }
    let (mut body_len, mut head_len) = (0, 1);
    loop {
        let byte = *bytes.get(head_len)?;
        body_len |= usize::from(byte & 0x7f) << (7 * (head_len - 1));
        head_len += 1;
        if byte & 0x80 == 0 || head_len == 5 {
            break;
        }
    }
    let body = bytes.get(head_len..head_len + body_len)?;
    let heard = match (bytes[0], body) {
        (0x20, [_, code]) => Heard::Connected(*code),
        _ => Heard::Other,
    };
    Some((heard, head_len + body_len))
}

/// Appends the length of what follows, seven bits a byte (MQTT 3.1.1, 2.2.3).
pub fn length(mut len: usize, out: &mut Vec<u8>) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_and_halves_wait() {
        assert_eq!(hear(&[0x20, 2, 0, 0, 0x40]), Some((Heard::Connected(0), 4)));
        assert_eq!(hear(&[0x40, 2, 1, 2]), Some((Heard::Acknowledged(258), 4)));
        assert_eq!(hear(&[0xd0, 0]), Some((Heard::Other, 2)));
        for half in [&[][..], &[0x40], &[0x40, 2], &[0x40, 2, 0], &[0x20, 2, 0]] {
            assert_eq!(hear(half), None, "{half:?}");
        }
    }

    #[test]
    fn publish_of_200_bytes_has_a_length_of_two_bytes() {
        let mut out = Vec::new();
        publish(7, b"t", &[9; 200], &mut out);
        assert_eq!(out[..8], [0x32, 0xcd, 0x01, 0, 1, b't', 0, 7]);
        assert_eq!(out.len(), 3 + 205);
    }
}
