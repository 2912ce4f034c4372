//! What happened, counted over all devices; and said in the log once, not once for each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use zeugma_firmware::board::{Event, Lost};

use super::Summary;

/// Counters that all devices share.
#[derive(Debug)]
pub struct Tally {
    mqtt: String,
    taken: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    connections: AtomicU64,
    was_connected: AtomicBool,
    is_away_said: AtomicBool,
    no_entry_said: AtomicBool,
    refusal_said: AtomicBool,
}

impl Tally {
    /// Nothing happened yet with the broker at `mqtt`.
    pub fn new(mqtt: &str) -> Tally {
        Tally {
            mqtt: mqtt.into(),
            taken: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            was_connected: AtomicBool::new(false),
            is_away_said: AtomicBool::new(false),
            no_entry_said: AtomicBool::new(false),
            refusal_said: AtomicBool::new(false),
        }
    }

    /// Where the broker is.
    pub fn mqtt(&self) -> &str {
        &self.mqtt
    }

    /// Whether the broker ever answered.
    pub fn was_connected(&self) -> bool {
        self.was_connected.load(Relaxed)
    }

    /// The counts so far.
    pub fn summary(&self) -> Summary {
        Summary {
            taken: self.taken.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            refused: self.refused.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }

    /// Counts what one device tells; `was_connected` is whether it had a connection before.
    pub fn note(&self, event: Event, was_connected: bool) {
        match event {
            Event::Taken(_) => _ = self.taken.fetch_add(1, Relaxed),
            Event::Acknowledged(count) => _ = self.acknowledged.fetch_add(count as u64, Relaxed),
            Event::Dropped(count) => self.note_dropped(count),
            Event::Refused(count) => self.note_refused(count),
            Event::Connected => self.note_connected(),
            Event::Lost(lost) => self.note_lost(lost, was_connected),
            Event::Missing { reason, count } => tracing::debug!(count, "no reading: {reason}"),
            Event::FlashFailed => tracing::warn!("a flash failed"),
        }
    }

    fn note_refused(&self, count: usize) {
        self.refused.fetch_add(count as u64, Relaxed);
        if !self.refusal_said.swap(true, Relaxed) {
            tracing::warn!("{} refuses readings; they are kept and tried again", self.mqtt);
        }
    }

    fn note_dropped(&self, count: u64) {
        if self.dropped.fetch_add(count, Relaxed) == 0 {
            tracing::warn!("an outbox is full: its oldest readings are dropped, and counted");
        }
    }

    fn note_connected(&self) {
        self.connections.fetch_add(1, Relaxed);
        let is_first = !self.was_connected.swap(true, Relaxed);
        if self.is_away_said.swap(false, Relaxed) || is_first {
            tracing::info!("connected to {}", self.mqtt);
        }
    }

    fn note_lost(&self, lost: Lost, was_connected: bool) {
        if was_connected {
            self.connections.fetch_sub(1, Relaxed);
        }
        if matches!(lost, Lost::Refused(_)) && !self.no_entry_said.swap(true, Relaxed) {
            tracing::warn!("{}: {lost}; trying again", self.mqtt);
        }
        if self.connections.load(Relaxed) == 0 && !self.is_away_said.swap(true, Relaxed) {
            tracing::warn!("{}: {lost}; trying until it answers", self.mqtt);
        }
    }
}
