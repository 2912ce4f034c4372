//! Segments that are let go, and the thread that deletes them.
//!
//! A file system may take 50 ms to delete 64 MiB, which whoever waits for a sync should not feel.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use crate::{Disk, Error, Position, group::Deleted, segment};

/// Segments that hold nothing any more that anybody needs, the oldest first.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub disk: Arc<dyn Disk>,
    pub segments: VecDeque<Position>,
}

impl Leaving {
    /// Deletes them. After an error those that are left may be tried again.
    pub fn delete(&mut self) -> Result<(), Error> {
        while let Some(first) = self.segments.front().copied() {
            // One by one and the oldest first, so that a crash never leaves a gap between segments. An
            // old one that comes back does no harm: its records are known to be committed.
            segment::delete(&*self.disk, first)?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// The thread. Dropped, it deletes what it has before it ends.
#[derive(Debug)]
pub(crate) struct Deleter {
    leaving: Option<Sender<(Leaving, Vec<Deleted>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Deleter {
    pub fn start() -> std::io::Result<Deleter> {
        let (leaving, taken) = channel();
        let thread = std::thread::Builder::new().name("journal:delete".into()).spawn(move || run(&taken))?;
        Ok(Deleter { leaving: Some(leaving), thread: Some(thread) })
    }

    /// Leaves segments to the thread; `deleted` hear whether they are gone, with all that were left before.
    pub fn take(&self, leaving: Leaving, deleted: Vec<Deleted>) {
        if let Some(thread) = &self.leaving {
            // It takes them as long as we are here.
            let _ = thread.send((leaving, deleted));
        }
    }
}

impl Drop for Deleter {
    fn drop(&mut self) {
        drop(self.leaving.take());
        // A panic of it was reported by itself.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(taken: &Receiver<(Leaving, Vec<Deleted>)>) {
    let mut all: Option<Leaving> = None;
    while let Ok((more, deleted)) = taken.recv() {
        match &mut all {
            Some(all) => all.segments.extend(more.segments),
            None => all = Some(more),
        }
        // Space comes back later if it does not now; nothing is lost by keeping a segment. What is left is
        // tried again with the next, and found by the next start.
        let done = all.as_mut().is_none_or(|all| all.delete().is_ok());
        deleted.into_iter().for_each(|told| told(done));
    }
}
