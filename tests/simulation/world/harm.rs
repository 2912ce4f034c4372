//! What goes wrong: the disk, the store, another process, a lost disk with or without a backup.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, atomic::Ordering},
};

use zeugma_ingest::start::Opened;
use zeugma_journal::Journal;
use zeugma_lake::{ErrorKind, lease::LEASE_MS};

use super::{
    super::{
        disk::{DiskFault, SimDisk},
        process::{SEGMENT_BYTES, marks},
        sight::{TABLES, lake_rows},
        store::StoreFault,
    },
    World, Wrong,
};

impl World {
    pub(super) fn harm_disk(&mut self) {
        let fault = match self.random.u8(..5) {
            0 => DiskFault::Sync,
            1 => DiskFault::SyncNames,
            2 => {
                if let Some(running) = &self.running {
                    running.shelf.arm(StoreFault::DataRefused, self.random.u8(..2));
                }
                return self.note("a sealing will fail");
            }
            3 => {
                self.disk.set_full(true);
                return self.note("the disk is full");
            }
            _ => DiskFault::ShortWrite(self.random.u8(..)),
        };
        self.disk.arm(fault);
        self.note(format!("the disk will fail: {fault:?}"));
    }

    pub(super) fn harm_store(&mut self) {
        let fault = match self.random.u8(..7) {
            0 => StoreFault::Refused,
            1 => StoreFault::DataRefused,
            2 | 3 => StoreFault::LostAnswer,
            4 => StoreFault::Late,
            5 => {
                self.store.set_away(true);
                return self.note("the store is away");
            }
            _ => {
                self.store.set_away(false);
                return self.note("the store is back");
            }
        };
        let after = self.random.u8(..4);
        self.store.arm(fault, after);
        self.note(format!("the store will fail, {after} puts later: {fault:?}"));
    }

    /// Another ingest wants the lake: refused while our lease lasts; later it gets it, and we must not write.
    pub(super) async fn usurp(&mut self) -> Wrong {
        let Some(running) = &self.running else { return Ok(()) };
        self.store.calm();
        let now_ms = self.clock_us.load(Ordering::SeqCst) / 1_000;
        running.lease.renew(now_ms).await.map_err(|error| error.to_string())?;
        let lake = self.lake().await.map_err(|error| error.to_string())?;
        let data = tempfile::tempdir().map_err(|error| error.to_string())?;
        let open = async || {
            let (journal, _) = Journal::open_on(Arc::new(SimDisk::default()), SEGMENT_BYTES, marks())?;
            Opened::open(journal, data.path(), &lake, None, &self.clock()).await
        };
        if open().await.is_ok() {
            return Err("a second ingest got the lake while the first held it".into());
        }
        self.clock_us.fetch_add(2 * LEASE_MS * 1_000, Ordering::SeqCst);
        let other = open().await.map_err(|error| format!("a lease that ran out was not given: {error}"))?;
        let before = lake_rows(&lake).await?;
        let refused = running.committer.commit_now().await;
        if lake_rows(&lake).await? != before {
            return Err("a fenced ingest has written".into());
        }
        other.lease.release().await.map_err(|error| error.to_string())?;
        let fenced = refused.is_err_and(|error| error.kind() == ErrorKind::Fenced);
        self.end_process(if fenced { "usurped and fenced" } else { "usurped with nothing to commit" });
        Ok(())
    }

    pub(super) fn back_up(&mut self) {
        if let Ok(source) = fs::read_to_string(self.data.path().join("source")) {
            self.backup = Some((self.disk.image(), source));
            self.note("backed up");
        }
    }

    /// The disk is lost: a new one, empty or with what the backup has.
    pub(super) async fn lose_disk(&mut self) -> Wrong {
        self.end_process("the disk is lost");
        let lake = self.lake().await.map_err(|error| error.to_string())?;
        let source = fs::read_to_string(self.data.path().join("source")).unwrap_or_default();
        let mut committed = BTreeMap::new();
        for name in TABLES {
            // Whoever asks by name only sees the source that holds the lake, and that is this one.
            let snapshot = lake.table(name).load().await.map_err(|error| error.to_string())?;
            committed.insert(name, snapshot.committed_through(&source));
        }
        self.data = tempfile::tempdir().map_err(|error| error.to_string())?;
        self.disk = match self.backup.take().filter(|_| self.random.bool()) {
            Some((image, of)) if of == source => {
                fs::write(self.data.path().join("source"), of).map_err(|error| error.to_string())?;
                Arc::new(SimDisk::restored(&image))
            }
            _ => Arc::default(),
        };
        let held = match Journal::open_on(self.disk.clone(), SEGMENT_BYTES, marks()) {
            Ok((journal, _)) => journal.first()..journal.next(),
            Err(error) => return Err(format!("a backup cannot be opened: {error}")),
        };
        self.oracle.disk_replaced(&committed, held.clone());
        self.seen = TABLES.iter().map(|name| (*name, self.oracle.settled(name))).collect();
        self.note(format!("another disk, which goes on at {}", held.end));
        Ok(())
    }
}
