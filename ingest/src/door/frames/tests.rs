//! What the look at packets lets through, however the bytes are cut.

use proptest::prelude::*;

use super::*;
use crate::door::tests::site::packet;

fn frames() -> Frames {
    Frames::new(Number(0))
}

/// The verdict over bytes that come in pieces of these lengths, and how many bytes had been seen by then.
fn verdict(bytes: &[u8], mut cut: impl FnMut() -> usize) -> (bool, usize) {
    let (frames, mut seen) = (frames(), 0);
    while seen < bytes.len() {
        let piece = &bytes[seen..(seen + cut()).min(bytes.len())];
        seen += piece.len();
        if frames.look(piece) != Verdict::Pass {
            return (false, seen);
        }
    }
    (true, seen)
}

fn publish(topic_bytes: u16, rest_bytes: usize) -> Vec<u8> {
    packet(
        0x32,
        &[&topic_bytes.to_be_bytes()[..], &vec![b'x'; usize::from(topic_bytes) + rest_bytes]].concat(),
    )
}

#[test]
fn long_packets_pass_if_they_are_publishes() {
    let ping = [0xc0, 0];
    let all = [&ping[..], &publish(20, 300_000), &ping, &packet(0x82, &[0; PLAIN_PACKET_BYTES_MAX]), &ping]
        .concat();
    assert_eq!(verdict(&all, || 1_000), (true, all.len()));
}

#[test]
fn too_long_is_known_by_its_first_bytes_and_where_it_begins() {
    let long = packet(0x82, &[0; PLAIN_PACKET_BYTES_MAX + 1]);
    assert_eq!(verdict(&long, || 1), (false, 3));
    let topic = publish(TOPIC_BYTES_MAX as u16 + 1, 0);
    assert_eq!(verdict(&topic, || 1), (false, 5));
    let second = [&[0xc0, 0][..], &long].concat();
    assert_eq!(frames().look(&second), Verdict::TooLong(Some(2)));
    let frames = frames();
    assert_eq!(frames.look(&second[..3]), Verdict::Pass);
    assert_eq!(frames.look(&second[3..]), Verdict::TooLong(None));
}

#[test]
fn what_is_malformed_is_left_to_the_library() {
    for bytes in
        [&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..], &[0x32, 0], &[0x32, 1, 0, 0xc0, 0], &[0, 0, 0, 0]]
    {
        assert_eq!(verdict(bytes, || 1), (true, bytes.len()), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn cuts_do_not_matter(
        packets in prop::collection::vec((0u8..16, 0usize..12_000, any::<u16>()), 1..8),
        cuts in prop::collection::vec(1usize..5_000, 1..20),
    ) {
        let mut all = Vec::new();
        for (kind, bytes, topic) in packets {
            let mut body = vec![0; bytes];
            let topic = (topic % 2_000).to_be_bytes();
            body.iter_mut().zip(topic).for_each(|(byte, with)| *byte = with);
            all.extend(packet(kind << 4, &body));
        }
        let mut cuts = cuts.iter().cycle();
        let (passed, _) = verdict(&all, || *cuts.next().expect("a cycle"));
        prop_assert_eq!(passed, verdict(&all, || 1).0);
        prop_assert_eq!(passed, verdict(&all, || usize::MAX / 2).0);
    }
}
