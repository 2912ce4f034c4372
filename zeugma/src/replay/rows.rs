//! Rows of files, whatever their kind: the cells of the wanted columns, in file order.

mod csv;
mod ndjson;
mod parquet;

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use flate2::read::MultiGzDecoder;

use crate::Usage;

/// Bytes read from a file at once: large enough that system calls do not count.
const READ_BYTES: usize = 256 * 1024;

/// One value of a row, with as much of its type as the file tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// No value.
    Empty,
    /// Characters of a file without types (CSV): a number, a text or anything else.
    Raw(String),
    /// A text by the file's own account.
    Text(String),
    /// A number, spelled as in JSON.
    Number(String),
    /// A truth value.
    Boolean(bool),
    /// A moment: microseconds since 1970 in UTC.
    Instant(i64),
    /// A time on the wall: microseconds since 1970-01-01T00:00:00 in a zone the file does not name.
    Local(i64),
    /// A JSON array or object.
    Json(String),
}

/// The wanted cells of one row, and where it stands in its file (line or row, from 1).
#[derive(Debug)]
pub struct Row {
    /// Line of a text file (of CSV: where empty lines before the row begin), number of a Parquet row.
    pub line: u64,
    /// One cell for each wanted column, in the order wanted.
    pub cells: Vec<Cell>,
}

/// Rows one after another.
pub type Rows = Box<dyn Iterator<Item = anyhow::Result<Row>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Csv,
    Ndjson,
    Parquet,
}

/// A file that can be read more than once.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    kind: Kind,
    gzip: bool,
    /// Names of the columns of a CSV file without a header line.
    header: Option<Vec<String>>,
}

impl Source {
    /// A file by its name's extension; `header` names the columns of CSV files that have no header line.
    pub fn new(path: &Path, header: Option<&[String]>) -> Result<Source, Usage> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let (stem, gzip) = match name.strip_suffix(".gz") {
            Some(stem) => (stem, true),
            None => (name.as_str(), false),
        };
        let kind = match stem.rsplit_once('.').map(|(_, extension)| extension) {
            Some("csv") => Kind::Csv,
            Some("ndjson" | "jsonl") => Kind::Ndjson,
            Some("parquet") if !gzip => Kind::Parquet,
            _ => {
                return Err(Usage(format!(
                    "{}: not .csv, .ndjson, .jsonl (each also .gz) or .parquet",
                    path.display()
                )));
            }
        };
        if header.is_some() && kind != Kind::Csv {
            return Err(Usage(format!("{}: --no-header is for CSV files", path.display())));
        }
        if !path.is_file() {
            return Err(Usage(format!("{}: no such file", path.display())));
        }
        Ok(Source { path: path.to_owned(), kind, gzip, header: header.map(<[String]>::to_vec) })
    }

    /// Whether the file declares its columns, so that one not declared cannot occur.
    pub fn declares_columns(&self) -> bool {
        self.kind != Kind::Ndjson
    }

    /// The columns there are; none in an empty file.
    pub fn columns(&self) -> anyhow::Result<Vec<String>> {
        let columns = match self.kind {
            Kind::Csv => csv::columns(self.open()?, self.header.as_deref()),
            Kind::Ndjson => ndjson::columns(self.open()?),
            Kind::Parquet => parquet::columns(self.file()?),
        };
        columns.with_context(|| self.path.display().to_string())
    }

    /// The rows, each with the cells of `wanted`; a column that is not there gives empty cells.
    pub fn rows(&self, wanted: &[String]) -> anyhow::Result<Rows> {
        let path = self.path.display().to_string();
        let rows = match self.kind {
            Kind::Csv => csv::rows(self.open()?, self.header.as_deref(), wanted),
            Kind::Ndjson => Ok(ndjson::rows(self.open()?, wanted)),
            Kind::Parquet => parquet::rows(self.file()?, wanted),
        };
        let rows = rows.with_context(|| path.clone())?;
        Ok(Box::new(rows.map(move |row| row.with_context(|| path.clone()))))
    }

    fn file(&self) -> anyhow::Result<File> {
        File::open(&self.path).with_context(|| self.path.display().to_string())
    }

    fn open(&self) -> anyhow::Result<Box<dyn Read>> {
        let file = BufReader::with_capacity(READ_BYTES, self.file()?);
        // Logs are often many gzip files one after another, so all members are read.
        Ok(if self.gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
    }
}

#[cfg(test)]
mod tests;
