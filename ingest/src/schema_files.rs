//! Schemas that an operator puts into a folder: a new file is a new domain, or a new version of one.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use zeugma_schemas::domain::Domains;

/// A folder of `.avsc` files, looked at again and again.
#[derive(Debug)]
pub struct SchemaFiles {
    folder: PathBuf,
    /// What each file held when it was last looked at, so that a bad one is reported once.
    seen: HashMap<PathBuf, String>,
}

impl SchemaFiles {
    /// Nothing is read yet.
    pub fn new(folder: &Path) -> SchemaFiles {
        SchemaFiles { folder: folder.to_owned(), seen: HashMap::new() }
    }

    /// Reads what is new; answers the domains with it, if it changed them.
    ///
    /// A file that cannot be used is reported and passed over: the others still count.
    pub fn look(&mut self, domains: &Domains) -> Option<Domains> {
        let mut grown = domains.clone();
        let mut changed = false;
        for (path, text) in self.files() {
            if self.seen.get(&path) == Some(&text) {
                continue;
            }
            match grown.add(&text) {
                Ok(None) => {}
                Ok(Some(domain)) => {
                    changed = true;
                    tracing::info!(domain = domain.name(), file = %path.display(), "schema taken up");
                }
                Err(error) => tracing::error!(file = %path.display(), "schema ignored: {error}"),
            }
            self.seen.insert(path, text);
        }
        changed.then_some(grown)
    }

    /// Looks at every file anew: what was read could not be put to use.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// The folder's files by name, so that `parking.2.avsc` comes after `parking.1.avsc`.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(folder = %self.folder.display(), %error, "cannot look for schemas");
                return Vec::new();
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|end| end == "avsc")).collect();
        paths.sort();
        paths
            .into_iter()
            .filter_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)))
            .collect()
    }
}
