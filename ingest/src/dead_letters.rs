//! The way back in: dead letters are put through journal and acceptance again, and whoever asked for it is
//! told what became of them.
//!
//! In: dead letters as their table has them. Out: one record for each, with its original bytes, tenant,
//! topic and arrival, and a note of which letter it was. Promise: what is answered has been decided; a
//! letter put in twice makes no second row, as its readings are repeats by then.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::oneshot;
use zeugma_journal::{Batch, Error, Group, Payload, Position, Record};
use zeugma_schemas::{
    dead_letter::{DeadLetter, Replayed},
    topic::Topic,
};

use crate::{Clock, accept::again::Note, blocked::Blocked, erased::Erased, replays::Replays};

/// How often a full journal is asked again.
const ROOM_RETRY: Duration = Duration::from_millis(5);

/// Puts dead letters through acceptance again; clones are the same.
#[derive(Clone)]
pub struct DeadLetters {
    journal: Group,
    replays: Replays,
    erased: Erased,
    blocked: Blocked,
    clock: Clock,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").field("replays", &self.replays).finish_non_exhaustive()
    }
}

impl DeadLetters {
    pub(crate) fn new(
        journal: Group,
        replays: Replays,
        erased: Erased,
        blocked: Blocked,
        clock: Clock,
    ) -> DeadLetters {
        DeadLetters { journal, replays, erased, blocked, clock }
    }

    /// Puts letters in, in this order, and waits until each is decided; the caller bounds how many there are.
    ///
    /// # Errors
    /// Where the journal does not take them, or ends before they are decided: then what was taken is decided
    /// at the next start.
    pub async fn replay(&self, letters: Vec<DeadLetter>) -> Result<Replayed, Error> {
        let (ours, foreign): (Vec<_>, Vec<_>) = letters.into_iter().partition(is_of_its_tenant);
        let (blocked, ours): (Vec<_>, Vec<_>) =
            ours.into_iter().partition(|letter| self.blocked.has(&letter.topic));
        let mut replayed = refuse("tenant", foreign.len());
        replayed.add(&refuse("blocked", blocked.len()));
        while !self.journal.has_room() {
            tokio::time::sleep(ROOM_RETRY).await;
        }
        let (sender, receiver) = oneshot::channel();
        let erased = self.erased.spare(ours, |spared| self.submit(&spared, sender));
        replayed.add(&refuse("erased", erased));
        replayed.add(&receiver.await.unwrap_or(Err(Error::Closed))?);
        Ok(replayed)
    }

    fn submit(&self, letters: &[DeadLetter], done: oneshot::Sender<Result<Replayed, Error>>) {
        if letters.is_empty() {
            // Whoever asked may be gone.
            drop(done.send(Ok(Replayed::default())));
            return;
        }
        let (records, batch) = (letters.len(), batch(letters, (self.clock)()));
        let replays = self.replays.clone();
        // Told before acceptance sees the first of them, so none is decided unheard.
        let told = move |result: Result<Position, Error>| match result {
            Ok(first) => replays.expect(first, records, done),
            Err(error) => drop(done.send(Err(error))),
        };
        self.journal.submit(batch, Box::new(told));
    }
}

/// A letter whose topic names another tenant than it belongs to would not have been taken then, nor is it now.
fn is_of_its_tenant(letter: &DeadLetter) -> bool {
    match (&letter.tenant, Topic::parse(&letter.topic)) {
        (Some(tenant), Some(topic)) => topic.tenant == tenant,
        _ => true,
    }
}

fn refuse(reason: &'static str, letters: usize) -> Replayed {
    let letters = letters as u64;
    let rejected = (letters > 0).then_some((reason, letters)).into_iter().collect::<BTreeMap<_, _>>();
    Replayed { letters, unchanged: letters, rejected, ..Replayed::default() }
}

fn batch(letters: &[DeadLetter], replayed_at_us: i64) -> Batch {
    let mut batch = Batch::default();
    for letter in letters {
        let note = Note {
            replayed_at_us,
            source: letter.source.clone(),
            position: letter.position,
            index: letter.index,
            reason: letter.reason,
        };
        batch.push(&Record {
            tenant: letter.tenant.as_deref(),
            topic: &letter.topic,
            received_at_us: letter.received_at_us,
            payload: Payload::Again { note: &note.to_string(), bytes: &letter.payload },
        });
    }
    batch
}
