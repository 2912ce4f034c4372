//! A disk that tears, fills and fails as real ones do.
//!
//! Every file has bytes that the system shows and bytes that the disk has. A kill of the process loses
//! neither; a power cut loses what was not synced, up to any byte. After a failed sync the system shows
//! what the disk may never have, and the next sync says nothing about it.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use zeugma_journal::Disk;

/// What the next operation of its kind meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// An append writes this share of its bytes, of 255, and fails.
    ShortWrite(u8),
    /// A sync of a file fails.
    Sync,
    /// A sync of the names fails.
    SyncNames,
}

/// A disk in memory.
#[derive(Debug, Default)]
pub struct SimDisk {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    files: Vec<File>,
    /// Which file a name means, as the system shows it and as the disk has it.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    fault: Option<DiskFault>,
    full: bool,
}

#[derive(Debug, Clone, Default)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// From here on the system believes its bytes to be durable, and they are not.
    lost_from: Option<usize>,
}

/// All that a disk has at one moment, as a backup keeps it.
#[derive(Debug, Clone)]
pub struct Image(State);

impl SimDisk {
    /// A disk that holds what a backup kept.
    pub fn restored(image: &Image) -> SimDisk {
        let disk = SimDisk { state: Mutex::new(image.0.clone()) };
        disk.calm();
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms a fault for the next operation of its kind.
    pub fn arm(&self, fault: DiskFault) {
        self.state().fault = Some(fault);
    }

    /// Whether there is no space any more.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// What is synced, for a backup.
    pub fn image(&self) -> Image {
        let mut state = self.state().clone();
        state.lose_power(&mut fastrand::Rng::with_seed(0), false);
        Image(state)
    }

    /// The power fails: of what was not synced, chance keeps a part.
    pub fn cut_power(&self, random: &mut fastrand::Rng) {
        self.state().lose_power(random, true);
    }

    /// Faults that were armed and not met are forgotten, as the process has ended.
    pub fn calm(&self) {
        let mut state = self.state();
        (state.fault, state.full) = (None, false);
    }
}

impl State {
    fn lose_power(&mut self, random: &mut fastrand::Rng, tear: bool) {
        let mut names = self.durable_names.clone();
        for (name, file) in &self.names {
            if tear && random.bool() {
                names.insert(name.clone(), *file);
            }
        }
        for name in self.durable_names.keys().filter(|name| !self.names.contains_key(*name)) {
            if tear && random.bool() {
                names.remove(name);
            }
        }
        (self.names, self.durable_names) = (names.clone(), names);
        self.files.iter_mut().for_each(|file| file.lose_power(random, tear));
        self.fault = None;
    }

    fn take(&mut self, fault: impl Fn(DiskFault) -> bool) -> Option<DiskFault> {
        self.fault.filter(|armed| fault(*armed)).inspect(|_| self.fault = None)
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let file = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.files[*file])
    }
}

impl File {
    fn lose_power(&mut self, random: &mut fastrand::Rng, tear: bool) {
        let same = self.durable.len().min(self.lost_from.unwrap_or(usize::MAX));
        let mut bytes = self.durable.clone();
        if tear && self.seen.len() > same && self.lost_from.is_none() {
            let kept = same + random.usize(0..=self.seen.len() - same);
            bytes = self.seen[..kept].to_vec();
            // The last sector may hold anything.
            if kept > same && random.bool() {
                let from = kept - random.usize(1..=(kept - same).min(64));
                bytes[from..].iter_mut().for_each(|byte| *byte = random.u8(..));
            }
        }
        (self.seen, self.durable, self.lost_from) = (bytes.clone(), bytes, None);
    }

    fn sync(&mut self) {
        self.durable = self.seen.clone();
        if let Some(from) = self.lost_from {
            // Bytes that the system took for durable are never written.
            let to = self.durable.len();
            self.durable[from.min(to)..].iter_mut().for_each(|byte| *byte = 0);
        }
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.state().file(name)?.seen.clone())
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match state.file(name) {
            Ok(file) => (file.seen, file.lost_from) = (Vec::new(), None),
            Err(_) => {
                state.files.push(File::default());
                let file = state.files.len() - 1;
                state.names.insert(name.to_owned(), file);
            }
        }
        Ok(())
    }

    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let short = match state.take(|fault| matches!(fault, DiskFault::ShortWrite(_))) {
            Some(DiskFault::ShortWrite(share)) => Some(bytes.len() * usize::from(share) / 256),
            _ => state.full.then_some(bytes.len() / 2),
        };
        let written = short.unwrap_or(bytes.len());
        state.file(name)?.seen.extend_from_slice(&bytes[..written]);
        match short {
            Some(_) => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(()),
        }
    }

    fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        let file = state.file(name)?;
        file.seen.truncate(bytes as usize);
        file.lost_from = file.lost_from.filter(|from| *from < file.seen.len());
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let fails = state.take(|fault| fault == DiskFault::Sync).is_some();
        let file = state.file(name)?;
        if fails {
            file.lost_from = Some(file.lost_from.unwrap_or(file.durable.len()).min(file.seen.len()));
            return Err(io::Error::other("input/output error"));
        }
        file.sync();
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.take(|fault| fault == DiskFault::SyncNames).is_some() {
            return Err(io::Error::other("input/output error"));
        }
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.state().names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn place(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }
}
