//! The source: the identity of a data folder's journal, made with the folder.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::Error;

/// The source of a data folder; a new one where it has none yet.
pub fn of(data: &Path) -> Result<String, Error> {
    let path = path(data);
    match std::fs::read_to_string(&path) {
        Ok(text) => Uuid::try_parse(text.trim())
            .map(|uuid| uuid.to_string())
            .map_err(|_| Error::Folder { path, problem: "it holds no UUID".into() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => renew(data),
        Err(error) => Err(Error::Folder { path, problem: error.to_string() }),
    }
}

/// Gives a data folder a new source: the lake knows more of the old one than its journal does, as after
/// a disk was replaced or restored, and positions must not be used twice.
pub fn renew(data: &Path) -> Result<String, Error> {
    let source = Uuid::new_v4().to_string();
    let (path, new) = (path(data), data.join("source.new"));
    let write = || -> std::io::Result<()> {
        std::fs::write(&new, &source)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &path)?;
        std::fs::File::open(data)?.sync_all()
    };
    match write() {
        Ok(()) => Ok(source),
        Err(error) => Err(Error::Folder { path, problem: format!("cannot write it: {error}") }),
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("source")
}
