//! Where the lake lies: a folder or a bucket, and how bytes get there for good.

use std::{
    path::{Path as FsPath, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::TryStreamExt;
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutPayload, aws::AmazonS3Builder, local::LocalFileSystem,
    memory::InMemory, path::Path, prefix::PrefixStore,
};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::Error;

/// The format of a lake that this program reads and writes: without partitions, since 2.
const FORMAT: u32 = 2;

/// The lake's place, as an object store.
#[derive(Debug)]
pub struct Store {
    root: Arc<dyn ObjectStore>,
    /// The lake's URL, with a slash at its end.
    url: Url,
    /// The lake's folder below the store's root.
    base: Path,
    /// Whether files are on this machine and must be synced by us.
    local: bool,
}

impl Store {
    /// Reaches the place that a URL (`file:`, `s3:`, `memory:`) or a path names.
    ///
    /// Credentials and endpoints of `s3:` come from the usual `AWS_*` variables.
    pub fn open(url: &str) -> Result<Store, Error> {
        let fail = |problem: String| Error::Location { url: url.to_owned(), problem };
        let parsed = match Url::parse(url) {
            Ok(parsed) if parsed.scheme().len() > 1 => parsed,
            _ => return Self::in_folder(FsPath::new(url)),
        };
        match parsed.scheme() {
            "file" => {
                let folder =
                    parsed.to_file_path().map_err(|()| fail("it is no path of this machine".into()))?;
                Self::in_folder(&folder)
            }
            "s3" | "s3a" => {
                let bucket = AmazonS3Builder::from_env().with_url(url).build();
                let bucket = bucket.map_err(|error| fail(error.to_string()))?;
                Self::with_root(Arc::new(bucket), parsed)
            }
            "memory" => Self::with_root(Arc::new(InMemory::new()), parsed),
            other => Err(fail(format!("`{other}:` is not known; write a path, file:// or s3://"))),
        }
    }

    /// A lake in any object store, whose root is the root of the URL.
    pub fn with_root(root: Arc<dyn ObjectStore>, mut url: Url) -> Result<Store, Error> {
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let base = Path::from_url_path(url.path())
            .map_err(|error| Error::Location { url: url.to_string(), problem: error.to_string() })?;
        Ok(Store { root, local: false, url, base })
    }

    fn in_folder(folder: &FsPath) -> Result<Store, Error> {
        let fail = |problem: String| Error::Location { url: folder.display().to_string(), problem };
        std::fs::create_dir_all(folder).map_err(|error| fail(format!("cannot make the folder: {error}")))?;
        let folder = folder.canonicalize().map_err(|error| fail(error.to_string()))?;
        let url = Url::from_directory_path(&folder).map_err(|()| fail("it is no absolute path".into()))?;
        let mut store = Self::with_root(Arc::new(LocalFileSystem::new()), url)?;
        store.local = true;
        Ok(store)
    }

    /// The lake's URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The object store, whose root is the root of the lake's URL, for engines that read files themselves.
    pub fn root(&self) -> Arc<dyn ObjectStore> {
        self.root.clone()
    }

    /// A path below the lake, from the store's root.
    pub fn path(&self, below: &str) -> Path {
        Path::from_iter(self.base.parts().chain(Path::from(below).parts()))
    }

    /// The Delta log store of a table.
    pub(crate) fn log_store(&self, table: &str) -> Result<LogStoreRef, Error> {
        let location =
            self.url.join(&format!("{table}/")).map_err(|error| Error::Internal(error.to_string()))?;
        let prefixed = Arc::new(PrefixStore::new(self.root.clone(), self.path(table)));
        Ok(default_logstore(prefixed, self.root.clone(), &location, &StorageConfig::default()))
    }

    /// Reads an object; `None` where there is none.
    pub async fn get(&self, below: &str) -> Result<Option<Bytes>, Error> {
        match self.root.get(&self.path(below)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes an object, over what may be there, and syncs it.
    pub async fn put(&self, below: &str, bytes: impl Into<PutPayload>) -> Result<(), Error> {
        self.root.put(&self.path(below), bytes.into()).await?;
        self.sync(&[below.to_owned()]).await
    }

    /// Writes an object that must not be there yet, and syncs it; `false` where it is.
    pub async fn create(&self, below: &str, bytes: impl Into<PutPayload>) -> Result<bool, Error> {
        match self.root.put_opts(&self.path(below), bytes.into(), PutMode::Create.into()).await {
            Ok(_) => self.sync(&[below.to_owned()]).await.map(|()| true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a note of ours; `None` where there is none.
    pub async fn get_json<T: DeserializeOwned>(&self, below: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.get(below).await? else { return Ok(None) };
        let note = serde_json::from_slice(&bytes);
        note.map(Some)
            .map_err(|error| Error::Internal(format!("`{below}` in the lake cannot be read: {error}")))
    }

    /// Writes a note of ours, over what may be there, and syncs it.
    pub async fn put_json(&self, below: &str, note: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(note).map_err(|error| Error::Internal(error.to_string()))?;
        self.put(below, text).await
    }

    /// Deletes an object, if it is there.
    pub async fn delete(&self, below: &str) -> Result<(), Error> {
        match self.root.delete(&self.path(below)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Paths, from the lake's root, of all objects below a folder of it, in the order of their names.
    pub async fn list(&self, below: &str) -> Result<Vec<String>, Error> {
        let folder = self.path(below);
        let base = self.base.parts().count();
        let found: Vec<_> = self.root.list(Some(&folder)).try_collect().await?;
        let mut paths: Vec<String> = found
            .into_iter()
            .map(|object| Path::from_iter(object.location.parts().skip(base)).to_string())
            .collect();
        paths.sort();
        Ok(paths)
    }

    /// Makes files of a local lake durable: their bytes, their names, the folders made for them.
    ///
    /// An object store answers a put only when it is durable; a file system must be asked.
    pub async fn sync(&self, below: &[String]) -> Result<(), Error> {
        if !self.local {
            return Ok(());
        }
        let root = self.url.to_file_path().map_err(|()| Error::Internal("a local lake has a path".into()))?;
        let paths: Vec<PathBuf> = below.iter().map(|path| root.join(path)).collect();
        tokio::task::spawn_blocking(move || sync_files(&root, &paths))
            .await
            .map_err(|error| Error::Internal(error.to_string()))?
    }

    /// Deletes what writes of ours have left behind that a kill has cut short. Only a file system keeps such files,
    /// under names with a number behind a `#`, which it lists nowhere; nobody else may be writing.
    pub async fn delete_unfinished(&self) -> Result<(), Error> {
        if !self.local {
            return Ok(());
        }
        let root = self.url.to_file_path().map_err(|()| Error::Internal("a local lake has a path".into()))?;
        let deleted = tokio::task::spawn_blocking(move || delete_unfinished(&root)).await;
        let failed = |source| Error::Sync { path: self.url.to_string(), source };
        deleted.map_err(|error| Error::Internal(error.to_string()))?.map_err(failed)
    }

    pub(crate) async fn check_format(&self) -> Result<(), Error> {
        const FILE: &str = "_zeugma/format";
        match self.get(FILE).await? {
            None => self.create(FILE, FORMAT.to_string().into_bytes()).await.map(|_| ()),
            Some(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                match text.trim().parse() {
                    Ok(FORMAT) => Ok(()),
                    Ok(found) => Err(Error::Format { url: self.url.to_string(), found, known: FORMAT }),
                    Err(_) => Err(Error::Internal(format!("`{FILE}` in the lake is no number: {text}"))),
                }
            }
        }
    }
}

fn delete_unfinished(lake: &FsPath) -> std::io::Result<()> {
    for entry in std::fs::read_dir(lake)? {
        let folder = entry?.path();
        let is_ours = |name: &str| folder.file_name().is_some_and(|found| found == name);
        // What else somebody may keep beside the tables is none of ours.
        if is_ours("_zeugma") || is_ours("_schemas") || folder.join("_delta_log").is_dir() {
            delete_unfinished_below(&folder)?;
        }
    }
    Ok(())
}

fn delete_unfinished_below(folder: &FsPath) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if entry.file_type()?.is_dir() {
            delete_unfinished_below(&entry.path())?;
        } else if name.rsplit_once('#').is_some_and(|(_, number)| is_number(number)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sync_files(root: &FsPath, paths: &[PathBuf]) -> Result<(), Error> {
    let sync = |path: &FsPath| {
        let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
        synced.map_err(|source| Error::Sync { path: path.display().to_string(), source })
    };
    let mut folders = std::collections::BTreeSet::new();
    for path in paths {
        sync(path)?;
        folders.extend(path.ancestors().skip(1).take_while(|folder| folder.starts_with(root)));
    }
    folders.into_iter().try_for_each(sync)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_unfinished_writes_of_ours_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let kept = [
            "fleet/_delta_log/00.json",
            "fleet/run-1.parquet",
            "fleet/a#b",
            "_zeugma/format",
            "notes/todo#1",
        ];
        let gone = ["fleet/run-1.parquet#1", "fleet/_delta_log/00.json#23", "_zeugma/erasing/x.json#1"];
        for path in kept.iter().chain(&gone) {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        store.delete_unfinished().await.unwrap();
        let is_there = |path: &&&str| folder.path().join(path).exists();
        assert_eq!(kept.iter().filter(is_there).count(), kept.len());
        assert_eq!(gone.iter().filter(is_there).count(), 0);
    }
}
