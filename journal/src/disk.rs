//! The disk below a journal: files of one folder, and what may go wrong with them.
//!
//! The real one is [`Folder`]; a simulation brings its own, which tears, fills and fails.

use std::{
    fmt::Debug,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::Error;

/// The files of one folder, by name. What is appended or created is durable only after its sync.
pub trait Disk: Debug + Send + Sync {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// All bytes of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes an empty file, over what may be there.
    fn create(&self, name: &str) -> io::Result<()>;
    /// Appends bytes; after an error some of them may be there.
    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file to a length.
    fn cut(&self, name: &str, bytes: u64) -> io::Result<()>;
    /// Makes a file's bytes durable. After an error nothing that was not durable before can be trusted.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Makes names durable: created files are found again, deleted ones are not.
    fn sync_names(&self) -> io::Result<()>;
    /// Gives a file another name, over what may have it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Deletes a file.
    fn delete(&self, name: &str) -> io::Result<()>;
    /// Where a file lies, for whoever has to look at it.
    fn place(&self, name: &str) -> PathBuf;
}

/// A folder of this machine, which no other process has open.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held as long as the folder is open.
    lock: File,
    /// The file that was appended to last: nearly always the one that will be next.
    open: Mutex<Option<(String, File)>>,
}

impl Folder {
    /// Opens a folder, which may be new, and locks it.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process has it.
    pub fn open(path: &Path) -> Result<Folder, Error> {
        create_folders(path).map_err(Error::disk("create the folder", path))?;
        let lock = path.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(Error::disk("open", &lock))?;
        match file.try_lock() {
            Ok(()) => Ok(Folder { path: path.to_owned(), lock: file, open: Mutex::default() }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned() }),
            Err(std::fs::TryLockError::Error(source)) => {
                Err(Error::Disk { what: "lock", path: lock, source })
            }
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<(String, File)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a file that is open for appending.
    fn with<T>(&self, name: &str, work: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut last = self.last();
        if last.as_ref().is_none_or(|(open, _)| open != name) {
            let file = OpenOptions::new().append(true).open(self.path.join(name))?;
            *last = Some((name.to_owned(), file));
        }
        match last.as_mut() {
            Some((_, file)) => work(file),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing is not enough: a child of this process that has been forked and has not begun its program
        // has the file open as well, and with it the lock (flock(2)).
        let _ = self.lock.unlock();
    }
}

/// The names of all files in a folder.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Makes a folder and those above it, where they are missing, with names that are durable.
fn create_folders(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing = path.ancestors().take_while(|folder| !folder.exists()).count();
    std::fs::create_dir_all(&path)?;
    // Its own name in any case: whoever made it may have been stopped before this.
    for parent in path.ancestors().skip(1).take(missing.max(1)) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        names(&self.path)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.path.join(name))
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        file.set_len(0)?;
        *self.last() = Some((name.to_owned(), file));
        Ok(())
    }

    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.with(name, |file| file.write_all(bytes))
    }

    fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.with(name, |file| file.set_len(bytes))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        // The length of a file that grew belongs to its data, so this suffices (fdatasync(2)).
        self.with(name, |file| file.sync_data())
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        *self.last() = None;
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_that_was_let_go_is_free_though_a_forked_child_has_its_lock_open() {
        let folder = tempfile::tempdir().unwrap();
        let opened = Folder::open(folder.path()).unwrap();
        // What a fork leaves the child with: the same open file once more.
        let child = opened.lock.try_clone().unwrap();
        assert!(matches!(Folder::open(folder.path()), Err(Error::Locked { .. })));
        drop(opened);
        Folder::open(folder.path()).unwrap();
        drop(child);
    }
}
