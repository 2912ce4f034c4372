//! The world: everything that can happen between a device and the lake, one step after the other; what goes
//! wrong on the way is in [`harm`].

mod harm;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use zeugma_ingest::{Clock, tail::Reach};
use zeugma_journal::{Batch, Synced};
use zeugma_lake::{Error as LakeError, ErrorKind, Lake, Store, lease::LEASE_MS, upkeep::KEEP_DEFAULT};

use super::{
    devices::{Devices, Publish},
    disk::{Image, SimDisk},
    oracle::{Oracle, Rows},
    process::Running,
    sight::{TABLES, dead_letters, lake_rows, visible},
    store::SimStore,
};

/// 2026-09-21T14:13:20Z.
const BEGIN_US: i64 = 1_790_000_000_000_000;

type Wrong = Result<(), String>;

/// Everything there is.
pub struct World {
    random: fastrand::Rng,
    clock_us: Arc<AtomicI64>,
    store: Arc<SimStore>,
    disk: Arc<SimDisk>,
    data: TempDir,
    devices: Devices,
    /// Published and not acknowledged: devices will send it again.
    submitted: Vec<Publish>,
    oracle: Oracle,
    backup: Option<(Image, String)>,
    running: Option<Running>,
    /// What questions have seen, and must see for ever.
    seen: BTreeMap<&'static str, Rows>,
    /// What happened, step by step.
    pub trace: Vec<String>,
}

impl World {
    /// A world at its beginning: nothing runs yet.
    pub async fn new(seed: u64) -> World {
        World {
            random: fastrand::Rng::with_seed(seed),
            clock_us: Arc::new(AtomicI64::new(BEGIN_US)),
            store: Arc::default(),
            disk: Arc::default(),
            data: tempfile::tempdir().expect("a temporary folder"),
            devices: Devices::new(BEGIN_US),
            submitted: Vec::new(),
            oracle: Oracle::default(),
            backup: None,
            running: None,
            seen: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    /// Takes steps, then brings everything to an end and compares.
    pub async fn run(&mut self, steps: usize) -> Wrong {
        self.restart().await?;
        for _ in 0..steps {
            self.clock_us.fetch_add(self.random.i64(1..3_000_000), Ordering::SeqCst);
            self.step().await?;
            if self.running.is_none() {
                self.restart().await?;
            }
        }
        self.finish().await?;
        // Once more from the journal: nothing may come twice.
        self.end_process("ended");
        self.restart().await?;
        self.finish().await
    }

    fn note(&mut self, what: impl Into<String>) {
        let line = format!("{:4} {}", self.trace.len(), what.into());
        self.trace.push(line);
    }

    async fn step(&mut self) -> Wrong {
        if self.random.u8(..4) == 0 {
            self.store.land().await;
        }
        match self.random.u8(..100) {
            0..26 => {
                let publish = self.devices.next(&mut self.random, self.clock_us.load(Ordering::SeqCst));
                self.submitted.push(publish);
            }
            26..40 => self.sync(),
            40..54 => self.accept()?,
            54..62 => self.look_up().await?,
            62..66 => self.seal().await?,
            66..73 => self.commit().await?,
            73..75 => self.compact().await?,
            75..84 => self.ask().await?,
            84..88 => self.harm_disk(),
            88..93 => self.harm_store(),
            93..95 => self.end_process("killed"),
            95..97 => {
                let mut random = self.random.fork();
                self.disk.cut_power(&mut random);
                self.end_process("power cut");
            }
            97 => self.usurp().await?,
            98 => self.back_up(),
            _ => self.lose_disk().await?,
        }
        Ok(())
    }

    /// The process is gone, whatever it was doing.
    fn end_process(&mut self, how: &str) {
        self.running = None;
        self.disk.calm();
        self.store.calm();
        self.note(how);
    }

    fn clock(&self) -> Clock {
        let clock = self.clock_us.clone();
        Arc::new(move || clock.load(Ordering::SeqCst))
    }

    async fn lake(&self) -> Result<Lake, LakeError> {
        let url = "memory:///".parse().expect("a URL");
        Lake::open_in(Store::with_root(self.store.clone(), url)?).await
    }

    async fn restart(&mut self) -> Wrong {
        // Whoever held the lake may have held it for another source.
        self.clock_us.fetch_add(LEASE_MS * 1_000, Ordering::SeqCst);
        let failed = |error: &dyn std::fmt::Display| format!("the start failed: {error}");
        let lake = self.lake().await.map_err(|error| failed(&error))?;
        let reader = self.lake().await.map_err(|error| failed(&error))?;
        let started = Running::start(&self.disk, self.data.path(), &lake, reader, self.clock()).await;
        let running = started.map_err(|error| failed(&error))?;
        self.note(format!("started at {}", running.journal.next()));
        self.oracle.reopened(running.journal.next())?;
        self.running = Some(running);
        Ok(())
    }

    /// What was submitted is synced, then acknowledged; or it is not, and will be sent again.
    fn sync(&mut self) {
        let Some(running) = self.running.as_mut().filter(|_| !self.submitted.is_empty()) else { return };
        let mut batch = Batch::default();
        self.submitted.iter().for_each(|publish| publish.push_to(&mut batch));
        let next = running.journal.next();
        self.oracle.attempted(next, &self.submitted);
        match running.journal.append(&batch) {
            Ok(first) => {
                let block = Synced { first, batch };
                self.oracle.acknowledged(block.last());
                self.submitted.clear();
                let through = block.last();
                running.blocks.push_back(block);
                self.note(format!("acknowledged through {through}"));
            }
            Err(zeugma_journal::Error::Disk { .. }) => {
                self.oracle.reopened(next).expect("nothing of it was acknowledged");
                self.disk.set_full(false);
                self.note("not written, nothing acknowledged");
            }
            // The block may be on disk or not; nobody was told.
            Err(error) => self.end_process(&format!("ended: {error}")),
        }
    }

    fn accept(&mut self) -> Wrong {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Some(block) = running.blocks.pop_front() else { return Ok(()) };
        running.acceptor.accept(&block).map_err(|error| error.to_string())?;
        let waiting = running.acceptor.waiting();
        self.note(format!("accepted through {}, {waiting} late", block.last()));
        Ok(())
    }

    /// A look-up begins, stands before the gate, or comes to its end.
    async fn look_up(&mut self) -> Wrong {
        let slow = self.random.bool();
        let gate = self.store.gate();
        let Some(running) = &mut self.running else { return Ok(()) };
        let mut lookup = match running.lookup.take() {
            Some(lookup) => {
                gate.open();
                lookup
            }
            None if running.acceptor.waiting() > 0 => {
                if slow {
                    gate.close();
                }
                running.acceptor.look_up(Duration::ZERO)
            }
            None => return Ok(()),
        };
        let verdicts = tokio::select! {
            biased;
            verdicts = &mut lookup => Some(verdicts),
            () = gate.arrived() => None,
        };
        let what = match verdicts {
            None => {
                running.lookup = Some(lookup);
                "a look-up waits"
            }
            Some(verdicts) => {
                gate.open();
                match running.acceptor.take_verdicts(verdicts).map_err(|error| error.to_string())? {
                    true => "late ones are decided",
                    false => "late ones cannot be decided",
                }
            }
        };
        self.note(what);
        Ok(())
    }

    async fn seal(&mut self) -> Wrong {
        let Some(running) = &self.running else { return Ok(()) };
        let mut failed = 0;
        for table in TABLES {
            failed += u8::from(running.committer.seal(table, Reach::Accepted).await.is_err());
        }
        self.note(format!("sealed under pressure; {failed} tables were not"));
        Ok(())
    }

    async fn commit(&mut self) -> Wrong {
        let Some(running) = &mut self.running else { return Ok(()) };
        let what = match running.committer.commit_now().await {
            Ok(()) => "committed".to_owned(),
            Err(error) if error.kind() == ErrorKind::Fenced => {
                return Err(format!("fenced by nobody: {error}"));
            }
            Err(error) => format!("not committed: {:?}", error.kind()),
        };
        let through = running.forget.load(Ordering::SeqCst);
        let truncated = running.journal.truncate(through);
        let segments = running.journal.segments();
        self.note(format!("{what}; {segments} segments after {through}"));
        if let Err(error @ zeugma_journal::Error::Poisoned) = truncated {
            self.end_process(&format!("ended: {error}"));
        }
        Ok(())
    }

    async fn compact(&mut self) -> Wrong {
        // Nobody reads through a gate that is closed for a look-up.
        let Some(running) = self.running.as_ref().filter(|running| running.lookup.is_none()) else {
            return Ok(());
        };
        let what = match running.compactor.compact_to_one_run(None, |_| {}).await {
            Ok(done) => format!("compacted {} files to {}", done.files_before, done.files_after),
            Err(error) if error.kind() == ErrorKind::Fenced => {
                return Err(format!("fenced by nobody: {error}"));
            }
            Err(error) => format!("not compacted: {:?}", error.kind()),
        };
        let (tables, mut checkpoints) = (running.compactor.known.borrow().tables.clone(), 0);
        let now_ms = self.clock_us.load(Ordering::SeqCst) / 1_000;
        for table in tables.values() {
            checkpoints += u8::from(table.checkpoint(KEEP_DEFAULT, now_ms).await.unwrap_or(false));
        }
        self.note(format!("{what}; {checkpoints} checkpoints"));
        Ok(())
    }

    /// Somebody asks: each reading once, none that nobody sent, and all that was seen before.
    async fn ask(&mut self) -> Wrong {
        let fresh = self.random.bool();
        let Some(running) = &mut self.running else { return Ok(()) };
        let settled =
            running.blocks.is_empty() && running.acceptor.waiting() == 0 && running.lookup.is_none();
        running.caught_up |= settled;
        if !running.caught_up || running.lookup.is_some() {
            return Ok(());
        }
        let running = &*running;
        for name in TABLES {
            let rows = match visible(running, name, fresh).await {
                Ok(rows) => rows?,
                Err(_) => {
                    self.note("the store does not answer");
                    return Ok(());
                }
            };
            let expected = self.oracle.rows(name);
            check_subset(name, &rows, &expected, "was never sent")?;
            if let Some(seen) = self.seen.get(name) {
                check_subset(name, seen, &rows, "was seen and is gone")?;
            }
            if settled && rows != expected {
                return Err(format!("{name}: {} rows instead of {}", rows.len(), expected.len()));
            }
            self.seen.insert(name, rows);
        }
        let counts: Vec<usize> = TABLES.iter().map(|name| self.seen[name].len()).collect();
        self.note(format!("asked: {counts:?}{}", if settled { ", all there is" } else { "" }));
        Ok(())
    }

    /// All faults end; everything is sent, accepted, decided, committed, and compared.
    async fn finish(&mut self) -> Wrong {
        self.store.calm();
        self.store.land().await;
        self.disk.calm();
        if let Some(running) = &self.running {
            running.shelf.calm();
        }
        self.sync();
        if self.running.is_none() {
            self.restart().await?;
            self.sync();
        }
        let running = self.running.as_mut().expect("started above");
        while let Some(block) = running.blocks.pop_front() {
            running.acceptor.accept(&block).map_err(|error| error.to_string())?;
        }
        loop {
            let lookup = match running.lookup.take() {
                Some(lookup) => lookup,
                None if running.acceptor.waiting() > 0 => running.acceptor.look_up(Duration::ZERO),
                None => break,
            };
            let verdicts = lookup.await;
            running.acceptor.take_verdicts(verdicts).map_err(|error| error.to_string())?;
        }
        running.committer.commit_now().await.map_err(|error| format!("the last commit failed: {error}"))?;
        let last = running.journal.next() - 1;
        if running.tail.safe_through() != last {
            return Err(format!("after all, {} of {last} is in the lake", running.tail.safe_through()));
        }
        let source = running.source.clone();
        let lake = self.lake().await.map_err(|error| error.to_string())?;
        let rows = lake_rows(&lake).await?;
        for name in TABLES {
            if rows[name] != self.oracle.rows(name) {
                let (found, wanted) = (rows[name].len(), self.oracle.rows(name).len());
                return Err(format!("{name}: the lake has {found} rows, {wanted} were acknowledged"));
            }
        }
        let letters = dead_letters(&lake, &source).await?;
        if let Some(missing) = self.oracle.nonsense().iter().find(|position| !letters.contains(position)) {
            return Err(format!("the dead letter of {missing} is missing"));
        }
        self.note(format!("at the end: {:?} rows", TABLES.map(|name| rows[name].len())));
        Ok(())
    }
}

fn check_subset(name: &str, part: &Rows, whole: &Rows, wrong: &str) -> Wrong {
    match part.iter().find(|(identity, value)| whole.get(identity) != Some(value)) {
        None => Ok(()),
        Some((identity, value)) => {
            Err(format!("{name}: {identity:?} = {value} {wrong}; there is {:?}", whole.get(identity)))
        }
    }
}
