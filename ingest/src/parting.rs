//! Parting: at a moment, what came before is brought into the lake and deleted from the journal, so that it is in one
//! place only and can go from there for good.

use std::time::Duration;

use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use zeugma_journal::Group;
use zeugma_lake::Position;

use crate::{
    Error,
    tail::{End, Tail},
};

/// How often it is looked whether what is waited for has come.
const LOOK: Duration = Duration::from_millis(20);

/// A commit is asked for again after this time, as the last one has failed or could not take all.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How long the lake may take to have what the journal has.
const COMMITTED_WITHIN: Duration = Duration::from_secs(30);

/// Parts journal and lake; clones part the same.
#[derive(Debug, Clone)]
pub struct Parting {
    /// What is not in the lake yet.
    pub tail: Tail,
    /// Where it is on disk.
    pub journal: Group,
}

impl Parting {
    /// The journal's last position now, which is also the last of a segment.
    pub async fn turn(&self) -> Result<Position, Error> {
        self.turn_and(|_| {}).await
    }

    /// The same, and commits end there from here on: none can have gone beyond it.
    pub async fn turn_and_end_commits(&self) -> Result<Position, Error> {
        let tail = self.tail.clone();
        // In the journal's thread, so before acceptance is handed anything beyond it.
        self.turn_and(move |last| tail.end_commits(End::At(last))).await
    }

    async fn turn_and(&self, then: impl FnOnce(Position) + Send + 'static) -> Result<Position, Error> {
        let (tell, told) = oneshot::channel();
        self.journal.turn(Box::new(move |turned| {
            if let Ok(last) = &turned {
                then(*last);
            }
            // Who waited may be gone, as the program stops.
            drop(tell.send(turned));
        }));
        Ok(told.await.unwrap_or(Err(zeugma_journal::Error::Closed))?)
    }

    /// Waits until the lake has everything through a position.
    pub async fn commit_through(&self, position: Position) {
        let mut ask = Instant::now();
        while self.tail.safe_through() < position {
            if ask <= Instant::now() {
                self.tail.commit_soon();
                ask = Instant::now() + ASK_AGAIN;
            }
            sleep(LOOK).await;
        }
    }

    /// Deletes the journal's records through a position, which the lake has.
    ///
    /// # Errors
    /// [`Error::NotErased`] where some are left: ask again later.
    pub async fn delete_through(&self, position: Position) -> Result<(), Error> {
        let (tell, told) = oneshot::channel();
        let deleted = Box::new(move |deleted| tell.send(deleted).unwrap_or_default());
        self.journal.truncate_surely(position, deleted);
        match told.await {
            Ok(true) => Ok(()),
            _ => Err(Error::NotErased("the journal still has records of before")),
        }
    }

    /// Deletes everything the journal has now, once the lake has it.
    ///
    /// # Errors
    /// [`Error::NotErased`] where the lake does not take it soon: ask again later.
    pub async fn delete_all(&self) -> Result<(), Error> {
        let position = self.turn().await?;
        let committed = tokio::time::timeout(COMMITTED_WITHIN, self.commit_through(position)).await;
        committed.map_err(|_| Error::NotErased("the lake does not take what the journal has"))?;
        self.delete_through(position).await
    }
}
