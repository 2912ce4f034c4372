//! The eraser: everything of a device or tenant that came up to a moment goes, from every place where it is.
//!
//! In: whose it is. Out: journal, tables, dead letters and newest readings without it, and a proof in the lake.
//! Promise: what came later is not touched; what is begun is finished, whatever stops the process meanwhile, as
//! each step is [noted](zeugma_lake::erasure) before the next.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;
use zeugma_journal::Group;
use zeugma_lake::{
    ErrorKind, Lake, Lease, Position, Snapshot, Table,
    erasure::{Cut, ErasedTable, Erasure, time_text},
    gone::{Gone, Subject},
    remove::Removal,
    upkeep::KEEP_ERASED,
};
use zeugma_schemas::dead_letter;

use crate::{
    Clock, Error,
    accept::Known,
    blocked::Blocked,
    tail::{End, Tail},
};

/// How often it is looked whether everything through the cut is committed.
const LOOK: Duration = Duration::from_millis(100);

/// Erases.
pub struct Eraser {
    /// The lake.
    pub lake: Lake,
    /// The right to write.
    pub lease: Lease,
    /// What is not in the lake yet.
    pub tail: Tail,
    /// What is not decided yet, and what the lake has not taken.
    pub journal: Group,
    /// The tables.
    pub known: watch::Receiver<Known>,
    /// Who is not let in any more.
    pub blocked: Blocked,
    /// The time, for the proof and for dates of files.
    pub clock: Clock,
    /// How many removals there have been, of all kinds.
    pub count: Arc<AtomicU64>,
}

impl std::fmt::Debug for Eraser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eraser").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Eraser {
    /// Erases all that came of somebody up to now, and blocks them first where that is wanted. When it answers no
    /// question finds any of it; old files and versions go by [`Eraser::finish`] once nobody can be reading them.
    ///
    /// # Errors
    /// Where lake or journal do not answer. What was begun is gone on with by [`Eraser::go_on`].
    pub async fn erase(
        &self,
        subject: Subject,
        and_block: bool,
        report: impl Fn(&str) + Sync,
    ) -> Result<Erasure, Error> {
        self.go_on(&report).await?;
        if and_block {
            let mut blocked = self.lake.blocked().await?;
            blocked.insert(subject.clone());
            self.block(blocked).await?;
        }
        let cut = Cut { source: self.tail.source().to_owned(), position: 0 };
        let random = Uuid::new_v4().as_u128() as u32;
        let mut erasure = Erasure::new(subject, and_block, cut, self.now_ms(), random);
        self.take_steps(&mut erasure, &report).await?;
        Ok(erasure)
    }

    /// Blocks these, and nobody else.
    pub async fn block(&self, subjects: BTreeSet<Subject>) -> Result<(), Error> {
        self.lake.keep_blocked(&subjects).await?;
        self.blocked.set(subjects);
        Ok(())
    }

    /// Blocks somebody no more; says whether it was.
    pub async fn unblock(&self, subject: &Subject) -> Result<bool, Error> {
        let mut blocked = self.lake.blocked().await?;
        let was = blocked.remove(subject);
        self.block(blocked).await?;
        Ok(was)
    }

    /// Takes the steps that are left of erasures which were begun.
    pub async fn go_on(&self, report: &(impl Fn(&str) + Sync)) -> Result<(), Error> {
        for mut erasure in self.lake.open_erasures().await? {
            if erasure.rows_gone_at.is_none() {
                self.take_steps(&mut erasure, report).await?;
            }
        }
        Ok(())
    }

    /// Deletes old files, and the log that tells of them, of erasures whose rows have gone so long ago that no
    /// question can be reading them.
    pub async fn finish(&self) -> Result<(), Error> {
        for mut erasure in self.lake.open_erasures().await? {
            let Some(rows_gone_ms) = erasure.rows_gone_at_ms() else { continue };
            if self.now_ms() - rows_gone_ms < KEEP_ERASED.as_millis() as i64 {
                continue;
            }
            for place in 0..erasure.tables.len() {
                let (table, now_ms) = (self.table(&erasure.tables[place].table)?, self.now_ms());
                let erased = &mut erasure.tables[place];
                let Some(version) = erased.version.filter(|version| *version > erased.version_at_cut) else {
                    continue;
                };
                let (files, entries) = table.purge(&self.lease, version, rows_gone_ms, now_ms).await?;
                erased.files_deleted += files;
                erased.log_entries_deleted += entries;
                // Counted as they go, should the next table's fail.
                self.lake.keep_erasure(&erasure).await?;
            }
            erasure.finished_at = Some(time_text(self.now_ms()));
            self.lake.keep_erasure(&erasure).await?;
            tracing::info!(id = erasure.id, rows = erasure.rows(), "an erasure is finished");
        }
        Ok(())
    }

    /// Fixes the cut: the journal's last record now, which is also the last of a segment. Commits end there from
    /// here on.
    async fn fix_cut(&self, erasure: &mut Erasure) -> Result<(), Error> {
        // Until it is known they end nowhere, so that none goes beyond it.
        self.tail.end_commits(End::Here);
        let fixed = async {
            let position = self.turn_journal().await?;
            erasure.cut = Cut { source: self.tail.source().to_owned(), position };
            Ok(self.lake.keep_erasure(erasure).await?)
        };
        let fixed: Result<(), Error> = fixed.await;
        self.tail.end_commits(if fixed.is_ok() { End::At(erasure.cut.position) } else { End::Decided });
        fixed
    }

    async fn take_steps(&self, erasure: &mut Erasure, report: &(impl Fn(&str) + Sync)) -> Result<(), Error> {
        if erasure.tables.is_empty() {
            report("committing what came before");
            if self.tail.end() != End::At(cut_of(erasure, self.tail.source())) {
                // A new one, or one whose note the lake had though it did not say so.
                self.fix_cut(erasure).await?;
            }
            self.commit_through(cut_of(erasure, self.tail.source())).await;
            erasure.tables = self.tables_at_cut(&erasure.subject).await?;
            self.lake.keep_erasure(erasure).await?;
            self.tail.end_commits(End::Decided);
        }
        if !erasure.journal_deleted {
            report("deleting the journal of before");
            self.delete_journal(cut_of(erasure, self.tail.source())).await?;
            erasure.journal_deleted = true;
            self.lake.keep_erasure(erasure).await?;
        }
        for place in 0..erasure.tables.len() {
            if erasure.tables[place].version.is_none() {
                report(&format!("writing the files of {} anew", erasure.tables[place].table));
                self.remove_from(erasure, place).await?;
            }
        }
        erasure.rows_gone_at = Some(time_text(self.now_ms()));
        self.lake.keep_erasure(erasure).await?;
        tracing::info!(id = erasure.id, rows = erasure.rows(), "rows were erased; old files follow");
        Ok(())
    }

    /// Waits until the lake has everything through a position, and nothing beyond it.
    async fn commit_through(&self, position: Position) {
        while self.tail.safe_through() < position {
            self.tail.commit_soon();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The tables as they are now, and their files that may have rows of the subject.
    async fn tables_at_cut(&self, subject: &Subject) -> Result<Vec<ErasedTable>, Error> {
        let gone = Gone::Of(subject.clone());
        let tables = self.known.borrow().tables.clone();
        let mut erased = Vec::new();
        for table in tables.values() {
            let snapshot = table.load().await?;
            let files = snapshot.files().iter().filter(|file| gone.may_be_in(file));
            erased.push(ErasedTable {
                table: table.name().to_owned(),
                version_at_cut: snapshot.version(),
                files_looked_through: files.map(|file| file.path.clone()).collect(),
                ..ErasedTable::default()
            });
        }
        Ok(erased)
    }

    async fn delete_journal(&self, through: Position) -> Result<(), Error> {
        // After a restart the cut may lie within a segment, which goes with all that it has.
        self.turn_journal().await?;
        let (tell, told) = oneshot::channel();
        self.journal
            .truncate_surely(through, Box::new(move |deleted| tell.send(deleted).unwrap_or_default()));
        match told.await {
            Ok(true) => Ok(()),
            _ => Err(Error::NotErased("the journal still has records of before the cut")),
        }
    }

    async fn turn_journal(&self) -> Result<Position, Error> {
        let (tell, told) = oneshot::channel();
        self.journal.turn(Box::new(move |turned| drop(tell.send(turned))));
        Ok(told.await.unwrap_or(Err(zeugma_journal::Error::Closed))?)
    }

    /// Rows go from one table.
    async fn remove_from(&self, erasure: &mut Erasure, place: usize) -> Result<(), Error> {
        let gone = Gone::Of(erasure.subject.clone());
        let table = self.table(&erasure.tables[place].table)?;
        let snapshot = table.load().await?;
        let erased = &mut erasure.tables[place];
        if is_done(erased, &snapshot) {
            // The commit happened, and what followed did not: nothing tells of its newest readings any more.
            erased.version = Some(snapshot.readable_from());
            self.tail.gone_by(table.name(), snapshot.readable_from());
            return Ok(self.lake.keep_erasure(erasure).await?);
        }
        let before: BTreeSet<&str> = erased.files_looked_through.iter().map(String::as_str).collect();
        let files = snapshot.files().iter().filter(|file| before.contains(file.path.as_str()));
        let removal = self.removal(&table);
        let rewritten = removal.write(&gone, files.cloned().collect()).await?;
        (erased.rows, erased.files_replaced) = (rewritten.rows, rewritten.replaced.clone());
        let version_at_cut = erased.version_at_cut;
        if rewritten.replaced.is_empty() && !self.may_have_had(&table).await? {
            erased.version = Some(version_at_cut);
            return Ok(self.lake.keep_erasure(erasure).await?);
        }
        self.lake.keep_erasure(erasure).await?;
        let at_cut = match table.at(version_at_cut).await {
            Ok(at_cut) => Some(at_cut),
            // A stop that took longer than versions are kept.
            Err(error) if error.kind() == ErrorKind::Gone => None,
            Err(error) => return Err(error.into()),
        };
        let removed = removal.commit(&rewritten, true, self.now_ms()).await?;
        let version = removed.snapshot.readable_from();
        self.tail.gone_by(table.name(), version);
        if table.name() != dead_letter::TABLE {
            table.keep_latest_without(&gone, at_cut.as_deref(), &removed, &removal.columns).await?;
        }
        table.checkpoint_at(version).await?;
        erasure.tables[place].version = Some(version);
        Ok(self.lake.keep_erasure(erasure).await?)
    }

    /// Whether older versions may have rows that the present one has not: those that grew too old.
    async fn may_have_had(&self, table: &Table) -> Result<bool, Error> {
        let about = |rule: &zeugma_lake::retention::Rule| {
            rule.table.as_deref().is_none_or(|name| name == table.name())
        };
        Ok(self.lake.retention().await?.rules.iter().any(about))
    }

    fn removal(&self, table: &Table) -> Removal {
        let columns = self.known.borrow().columns(table.name());
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        Removal { table: table.clone(), columns, lease: self.lease.clone(), number }
    }

    fn table(&self, name: &str) -> Result<Table, Error> {
        let tables = self.known.borrow().tables.clone();
        let missing = || zeugma_lake::Error::NoTable { table: name.to_owned() };
        Ok(tables.get(name).cloned().ok_or_else(missing)?)
    }

    fn now_ms(&self) -> i64 {
        (self.clock)() / 1_000
    }
}

/// The cut of an erasure in a source's positions; what another source had is all in the lake, or lost.
pub(crate) fn cut_of(erasure: &Erasure, source: &str) -> Position {
    if erasure.cut.source == source { erasure.cut.position } else { 0 }
}

/// Whether a table's files were replaced already.
fn is_done(erased: &ErasedTable, snapshot: &Snapshot) -> bool {
    let replaced: BTreeSet<&str> = erased.files_replaced.iter().map(String::as_str).collect();
    !replaced.is_empty()
        && snapshot.readable_from() > erased.version_at_cut
        && !snapshot.files().iter().any(|file| replaced.contains(file.path.as_str()))
}
