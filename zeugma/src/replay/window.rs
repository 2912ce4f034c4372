//! The readings that are under way: what the publisher must send again when a connection breaks; pure.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

/// Readings sent and not yet acknowledged. At 30,000 readings/s it bridges 17 ms, several times the slowest
/// usual disk sync (3 ms); the server's Receive Maximum lowers it.
pub const WINDOW: u16 = 512;

/// A reading on its way.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it goes; shared by all readings of a device.
    pub topic: Arc<str>,
    /// The JSON object.
    pub payload: Bytes,
}

/// Readings under way, by how far they came.
#[derive(Debug, Default)]
pub struct Window {
    /// Left unacknowledged by an earlier connection.
    pub resend: VecDeque<Message>,
    /// Given to the client, not yet written.
    pub handed: VecDeque<Message>,
    /// Written, in this order, with their packet ids; answered ones leave a gap until they are in front.
    written: VecDeque<(u16, Option<Message>)>,
    /// How many of `written` are unanswered.
    waiting: usize,
}

impl Window {
    /// Whether one more may go out unacknowledged.
    pub fn has_room(&self) -> bool {
        self.handed.len() + self.waiting < WINDOW.into()
    }

    /// Whether no reading is under way or to be sent again.
    pub fn is_empty(&self) -> bool {
        self.handed.is_empty() && self.waiting == 0 && self.resend.is_empty()
    }

    /// The client wrote the reading that was handed to it first.
    pub fn written(&mut self, packet_id: u16) {
        if let Some(message) = self.handed.pop_front() {
            self.written.push_back((packet_id, Some(message)));
            self.waiting += 1;
        }
    }

    /// The reading that an acknowledgement answers: nearly always the first.
    pub fn answered(&mut self, packet_id: u16) -> Option<Message> {
        let place = self.written.iter().position(|(id, message)| *id == packet_id && message.is_some())?;
        let message = self.written[place].1.take();
        self.waiting -= 1;
        while self.written.front().is_some_and(|(_, message)| message.is_none()) {
            self.written.pop_front();
        }
        message
    }

    /// All unanswered readings, to be sent again in their order.
    pub fn rewind(&mut self) {
        let unanswered = self.written.drain(..).filter_map(|(_, message)| message);
        let mut resend: VecDeque<Message> = unanswered.chain(self.handed.drain(..)).collect();
        resend.append(&mut self.resend);
        self.resend = resend;
        self.waiting = 0;
    }
}
