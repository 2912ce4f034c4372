//! The eraser: everything of a device or tenant that came up to a moment goes, from every place where it is.
//!
//! In: whose it is. Out: journal, tables, dead letters and newest readings without it, and a proof in the lake.
//! Promise: what came later is not touched; what is begun is finished, whatever stops the process meanwhile, as
//! each step is [noted](zeugma_lake::erasure) before the next.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use uuid::Uuid;
use zeugma_lake::{
    Lake, Lease, Position, Snapshot, Table,
    erasure::{Cut, ErasedTable, Erasure, Removal as Noted, time_text},
    gone::{Gone, Subject},
    remove::{FILES_A_COMMIT, Removal, Rewritten},
    upkeep::KEEP_ERASED,
};

use crate::{
    Clock, Error, Metrics, accept::Known, blocked::BlockList, erased::Erased, parting::Parting,
    removals::Removals, tail::End,
};

/// What a door has read it hands to the journal in the same turn of its loop, which takes some milliseconds.
const HANDED_IN: Duration = Duration::from_millis(200);

/// Erases.
pub struct Eraser {
    /// The lake.
    pub lake: Lake,
    /// The right to write.
    pub lease: Lease,
    /// What is not in the lake yet.
    pub parting: Parting,
    /// The tables.
    pub known: watch::Receiver<Known>,
    /// Who is not let in any more.
    pub blocked: BlockList,
    /// Whose dead letters are not replayed.
    pub erased: Erased,
    /// The time, for the proof and for dates of files.
    pub clock: Clock,
    /// Begins removals.
    pub removals: Removals,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Tables from which rows are still to go: merged with later ones, their files could not be told apart any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// How many erasures have not done with their rows.
    erasures: i64,
    /// Nothing is known of the tables yet, so it may be any.
    any: bool,
    tables: BTreeSet<String>,
}

impl Unfinished {
    /// Whether a table is one of them.
    pub fn has(&self, table: &str) -> bool {
        self.any || self.tables.contains(table)
    }

    /// Whether every erasure has done with its rows.
    pub fn is_none(&self) -> bool {
        self.erasures == 0
    }

    fn add(&mut self, erasure: &Erasure) {
        let open = erasure.tables.iter().filter(|table| table.version.is_none());
        self.tables.extend(open.map(|table| table.table.clone()));
        self.any |= erasure.tables.is_empty();
        self.erasures += 1;
    }
}

impl std::fmt::Debug for Eraser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eraser").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Eraser {
    /// Erases all that came of somebody up to now, and blocks them first where that is wanted. When it answers no
    /// question finds any of it; old files and versions go once nobody can be reading them.
    ///
    /// # Errors
    /// [`Error::NotBegun`] where one that was begun before cannot go on. Where lake or journal do not answer: what was
    /// begun is finished by [`Eraser::go_on`].
    pub async fn erase(
        &self,
        subject: Subject,
        and_block: bool,
        report: impl Fn(&str) + Sync,
    ) -> Result<Erasure, Error> {
        if !self.go_on(&report).await?.is_none() {
            return Err(Error::NotBegun);
        }
        if and_block {
            self.blocked.add(subject.clone()).await?;
            sleep(HANDED_IN).await;
        }
        let cut = Cut { source: self.source().to_owned(), position: 0 };
        let random = Uuid::new_v4().as_u128() as u32;
        let mut erasure = Erasure::new(subject, and_block, cut, self.now_ms(), random);
        self.take_steps(&mut erasure, &report).await?;
        Ok(erasure)
    }

    /// Takes the steps that are left of erasures which were begun, each at its time; answers where rows are still to
    /// go. Rows of one go after those of the other, which would replace files that it knows by their names.
    ///
    /// # Errors
    /// Where the lake does not say what was begun. Why an erasure cannot go on is logged.
    pub async fn go_on(&self, report: &(impl Fn(&str) + Sync)) -> Result<Unfinished, Error> {
        let (mut unfinished, mut finished) = (Unfinished::default(), true);
        for mut erasure in self.lake.open_erasures().await? {
            self.erased.since(&erasure);
            match erasure.rows_gone_at_ms() {
                // What is left in log and files by one before it may tell of its rows, too.
                Some(rows_gone_ms) if finished => {
                    let done = self.finish(&mut erasure, rows_gone_ms).await;
                    finished = is_done(&erasure, done) && erasure.finished_at.is_some();
                }
                Some(_) => {}
                None if unfinished.is_none() => {
                    let gone = self.take_steps(&mut erasure, report).await;
                    if !is_done(&erasure, gone) {
                        unfinished.add(&erasure);
                    }
                }
                None => unfinished.add(&erasure),
            }
        }
        self.metrics.erasures_waiting.set(unfinished.erasures);
        Ok(unfinished)
    }

    /// Deletes old files, and the log that tells of them, once the rows have gone so long ago that no question can
    /// be reading them.
    async fn finish(&self, erasure: &mut Erasure, rows_gone_ms: i64) -> Result<(), Error> {
        if self.now_ms() - rows_gone_ms < KEEP_ERASED.as_millis() as i64 {
            return Ok(());
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
            self.lake.keep_erasure(erasure).await?;
        }
        erasure.finished_at = Some(time_text(self.now_ms()));
        self.lake.keep_erasure(erasure).await?;
        self.erased.end(erasure);
        tracing::info!(id = erasure.id, rows = erasure.rows(), "an erasure is finished");
        Ok(())
    }

    async fn take_steps(&self, erasure: &mut Erasure, report: &(impl Fn(&str) + Sync)) -> Result<(), Error> {
        if erasure.tables.is_empty() {
            report("committing what came before");
            if self.parting.tail.end() != End::At(self.cut(erasure))
                || self.is_past(self.cut(erasure)).await?
            {
                // A new one, or one whose note the lake had though it did not say so.
                self.fix_cut(erasure).await?;
            }
            self.parting.commit_through(self.cut(erasure)).await;
            erasure.tables = self.tables_at_cut(&erasure.subject).await?;
            self.lake.keep_erasure(erasure).await?;
        }
        // Also where the note was kept and the lake did not say so.
        self.parting.tail.end_commits(End::Decided);
        if !erasure.journal_deleted {
            report("deleting the journal of before");
            // After a restart the cut may lie within a segment, which goes with all that it has.
            self.parting.turn().await?;
            self.parting.delete_through(self.cut(erasure)).await?;
            erasure.journal_deleted = true;
            self.lake.keep_erasure(erasure).await?;
        }
        for place in 0..erasure.tables.len() {
            if erasure.tables[place].version.is_none() {
                report(&format!("writing the files of {} anew", erasure.tables[place].table));
                self.remove_from(erasure, place).await?;
            }
        }
        report("deleting what has come meanwhile from the journal, once the lake has it");
        // Known as a repeat of what has gone by now, a reading would be new to a start.
        self.parting.delete_all().await?;
        erasure.rows_gone_at = Some(time_text(self.now_ms()));
        self.lake.keep_erasure(erasure).await?;
        tracing::info!(id = erasure.id, rows = erasure.rows(), "rows were erased; old files follow");
        Ok(())
    }

    /// Fixes the cut: the journal's last record now. Commits end there from here on.
    async fn fix_cut(&self, erasure: &mut Erasure) -> Result<(), Error> {
        self.erased.begin(erasure);
        let fixed = async {
            let position = self.parting.turn_and_end_commits().await?;
            erasure.cut = Cut { source: self.source().to_owned(), position };
            Ok(self.lake.keep_erasure(erasure).await?)
        };
        let fixed: Result<(), Error> = fixed.await;
        match &fixed {
            Ok(()) => self.erased.since(erasure),
            Err(_) => {
                self.parting.tail.end_commits(End::Decided);
                self.erased.end(erasure);
            }
        }
        fixed
    }

    /// Whether the lake has more than what came by a cut, so that its versions do not tell the two apart.
    async fn is_past(&self, cut: Position) -> Result<bool, Error> {
        let tables = self.known.borrow().tables.clone();
        for table in tables.values() {
            if table.load().await?.committed_through(self.source()) > cut {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// Rows go from one table, some files a commit.
    async fn remove_from(&self, erasure: &mut Erasure, place: usize) -> Result<(), Error> {
        let gone = Gone::Of(erasure.subject.clone());
        let table = self.table(&erasure.tables[place].table)?;
        let snapshot = table.load().await?;
        let erased = &mut erasure.tables[place];
        settle(erased, &snapshot);
        let before: BTreeSet<&str> = erased.files_looked_through.iter().map(String::as_str).collect();
        let files = snapshot.files().iter().filter(|file| before.contains(file.path.as_str()));
        let files: Vec<_> = files.cloned().collect();
        for some in files.chunks(FILES_A_COMMIT) {
            let removal = self.removals.next(&table);
            let rewritten = removal.write(&gone, some.to_vec()).await?;
            if !rewritten.replaced.is_empty() {
                self.commit(erasure, place, &removal, &rewritten).await?;
            }
        }
        let nothing = erasure.tables[place].removals.is_empty();
        if nothing && snapshot.rows_gone_in() > snapshot.readable_from() {
            // It may have had rows that grew too old: older versions may have them, and log and newest readings tell.
            self.commit(erasure, place, &self.removals.next(&table), &Rewritten::default()).await?;
        }
        let erased = &mut erasure.tables[place];
        let version =
            erased.removals.last().and_then(|removal| removal.version).unwrap_or(erased.version_at_cut);
        if version > erased.version_at_cut {
            self.keep_latest(&table, &gone, erased.version_at_cut).await?;
            table.checkpoint_at(version).await?;
            self.parting.tail.gone_by(table.name(), version);
        }
        erased.version = Some(version);
        let kept = self.lake.keep_erasure(erasure).await;
        if kept.is_err() {
            // Whoever goes on may not know it, so rows of the table are still to go.
            erasure.tables[place].version = None;
        }
        Ok(kept?)
    }

    /// One commit, noted before and after.
    async fn commit(
        &self,
        erasure: &mut Erasure,
        place: usize,
        removal: &Removal,
        rewritten: &Rewritten,
    ) -> Result<(), Error> {
        let files_replaced = rewritten.replaced.clone();
        let noted = Noted { rows: rewritten.rows, files_replaced, version: None };
        erasure.tables[place].removals.push(noted);
        self.lake.keep_erasure(erasure).await?;
        let version = removal.commit(rewritten, true, self.now_ms()).await?.readable_from();
        if let Some(noted) = erasure.tables[place].removals.last_mut() {
            noted.version = Some(version);
        }
        Ok(self.lake.keep_erasure(erasure).await?)
    }

    /// Keeps the newest readings as they are now, before questions want them.
    async fn keep_latest(&self, table: &Table, gone: &Gone, version_at_cut: u64) -> Result<(), Error> {
        let columns = self.known.borrow().columns_of_readings(table.name());
        let Some(columns) = columns else { return Ok(()) };
        // Where it can be read no more, everything is looked through.
        let before = table.at_even_erased(version_at_cut).await.ok();
        let after = table.load().await?;
        Ok(table.keep_latest_without(gone, before.as_deref(), &after, &columns).await?)
    }

    fn table(&self, name: &str) -> Result<Table, Error> {
        let tables = self.known.borrow().tables.clone();
        let missing = || zeugma_lake::Error::NoTable { table: name.to_owned() };
        Ok(tables.get(name).cloned().ok_or_else(missing)?)
    }

    /// The cut of an erasure in our source's positions.
    fn cut(&self, erasure: &Erasure) -> Position {
        cut_of(erasure, self.source())
    }

    fn source(&self) -> &str {
        self.parting.tail.source()
    }

    fn now_ms(&self) -> i64 {
        (self.clock)() / 1_000
    }
}

/// Whether an erasure could go on; why not is logged.
fn is_done(erasure: &Erasure, result: Result<(), Error>) -> bool {
    if let Err(error) = &result {
        let error = error as &dyn std::error::Error;
        tracing::warn!(id = erasure.id, error, "an erasure cannot go on; trying again");
    }
    result.is_ok()
}

/// The cut of an erasure in a source's positions; what another source had is all in the lake, or lost.
pub(crate) fn cut_of(erasure: &Erasure, source: &str) -> Position {
    if erasure.cut.source == source { erasure.cut.position } else { 0 }
}

/// Finds out what became of a commit that was noted before it and not after.
fn settle(erased: &mut ErasedTable, snapshot: &Snapshot) {
    let Some(last) = erased.removals.last_mut().filter(|last| last.version.is_none()) else { return };
    let replaced: BTreeSet<&str> = last.files_replaced.iter().map(String::as_str).collect();
    let is_there = snapshot.files().iter().any(|file| replaced.contains(file.path.as_str()));
    if is_there || snapshot.readable_from() <= erased.version_at_cut {
        // It did not happen: its files are written anew.
        erased.removals.pop();
    } else {
        last.version = Some(snapshot.readable_from());
    }
}
