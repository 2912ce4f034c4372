//! Who waits until dead letters that came again are decided: told by acceptance, record by record.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use zeugma_journal::{Error, Position};
use zeugma_schemas::dead_letter::Replayed;

/// Who waits for which records; clones share the list.
#[derive(Debug, Clone, Default)]
pub struct Replays {
    waiting: Arc<Mutex<Vec<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    first: Position,
    last: Position,
    left: usize,
    replayed: Replayed,
    done: oneshot::Sender<Result<Replayed, Error>>,
}

impl Replays {
    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits for so many records, of which the first has this position.
    pub(crate) fn expect(
        &self,
        first: Position,
        records: usize,
        done: oneshot::Sender<Result<Replayed, Error>>,
    ) {
        let (last, replayed) = (first + records as Position - 1, Replayed::default());
        self.lock().push(Waiting { first, last, left: records, replayed, done });
    }

    /// A record is decided; after a restart nobody waits for it any more.
    pub(crate) fn tell(&self, position: Position, replayed: &Replayed) {
        let mut waiting = self.lock();
        let place = waiting.iter().position(|one| (one.first..=one.last).contains(&position));
        let Some(place) = place else { return };
        waiting[place].replayed.add(replayed);
        waiting[place].left -= 1;
        if waiting[place].left == 0 {
            let Waiting { replayed, done, .. } = waiting.swap_remove(place);
            // Whoever asked may be gone; the letters are decided all the same.
            drop(done.send(Ok(replayed)));
        }
    }
}
