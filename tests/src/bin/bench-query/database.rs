//! A peer: DuckDB or ClickHouse, from PyPI, in a Python process of its own that keeps its tables open.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, bail};
use arrow::datatypes::{DataType, SchemaRef};
use serde::Deserialize;
use serde_json::json;
use zeugma_tests::peers;

use crate::{answer::Columns, question::Dialect};

/// What the peers need.
const PACKAGES: [&str; 3] = ["duckdb==2.*", "chdb==4.*", "pyarrow"];

/// A database with tables of its own.
pub struct Database {
    pub dialect: Dialect,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What it says to a question.
#[derive(Debug, Deserialize)]
pub struct Reply {
    pub ms: f64,
    pub columns: Option<Columns>,
    error: Option<String>,
}

/// Installs the peers into the folder where they are kept, unless they are there.
pub fn install(data: &Path) -> anyhow::Result<()> {
    let (folder, done) = (data.join("peers"), data.join("peers/done"));
    if done.exists() {
        return Ok(());
    }
    println!("installing {} from PyPI into {}", PACKAGES.join(" "), folder.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip")).args(["install", "-q"]).args(PACKAGES))?;
    std::fs::write(done, "")?;
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed");
    }
    Ok(())
}

impl Database {
    /// Opens, or makes, a database in a folder.
    pub fn open(dialect: Dialect, data: &Path, folder: &Path) -> anyhow::Result<Database> {
        let mut child = Command::new(data.join("peers/bin/python"))
            .arg(peers::root().join("tests/peers/database.py"))
            .arg(dialect.name())
            .arg(folder.join(dialect.name()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take().context("a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Database { dialect, child, questions, answers })
    }

    /// Asks, and answers how long it took; with its rows where they are `wanted`.
    pub fn ask(&mut self, sql: &str, wanted: bool) -> anyhow::Result<Reply> {
        writeln!(self.questions, "{}", json!({"sql": sql, "wanted": wanted}))?;
        self.questions.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let reply: Reply = serde_json::from_str(&line)
            .with_context(|| format!("{} has ended, or says what cannot be read", self.dialect.name()))?;
        match reply.error {
            Some(error) => bail!("{}: {error}\n{sql}", self.dialect.name()),
            None => Ok(reply),
        }
    }

    /// Makes a table of Parquet files with these columns, sorted by tenant, device and time.
    pub fn load(&mut self, table: &str, columns: &SchemaRef, files: &[String]) -> anyhow::Result<()> {
        for sql in self.dialect.load(table, columns, files) {
            self.ask(&sql, false)?;
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Dialect {
    /// The peer's name.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Ours => "zeugma",
            Dialect::DuckDb => "duckdb",
            Dialect::ClickHouse => "clickhouse",
        }
    }

    fn load(self, table: &str, columns: &SchemaRef, files: &[String]) -> Vec<String> {
        let own: Vec<_> = columns.fields().iter().filter(|field| field.name() != "date").collect();
        let names: Vec<&str> = own.iter().map(|field| field.name().as_str()).collect();
        let files: Vec<String> = files.iter().map(|file| format!("'{file}'")).collect();
        if self == Dialect::DuckDb {
            // Its functions on times with a zone are slower, and all times are UTC.
            let plain = names.iter().map(|name| match *name {
                "time" | "received_at" => format!("{name}::TIMESTAMP AS {name}"),
                name => name.to_owned(),
            });
            return vec![
                "SET TimeZone = 'UTC'".into(),
                format!(
                    "CREATE TABLE {table} AS SELECT {} FROM read_parquet([{}], hive_partitioning = false) \
                     ORDER BY tenant, device, time",
                    plain.collect::<Vec<_>>().join(", "),
                    files.join(", ")
                ),
                "CHECKPOINT".into(),
            ];
        }
        let declared = own.iter().map(|field| {
            let (kind, codec) = match field.data_type() {
                DataType::Timestamp(..) => ("DateTime64(6, 'UTC')", "Delta, ZSTD(3)"),
                DataType::Int64 => ("Int64", "Delta, ZSTD(3)"),
                DataType::Int32 => ("Int32", "Delta, ZSTD(3)"),
                DataType::Float64 => ("Float64", "Gorilla, ZSTD(3)"),
                DataType::Boolean => ("Bool", "ZSTD(3)"),
                _ => ("String", "ZSTD(3)"),
            };
            let kind = match (kind, field.name().as_str()) {
                (_, "tenant" | "device") => "LowCardinality(String)".to_owned(),
                ("String", name) if name != "extra" => "LowCardinality(Nullable(String))".to_owned(),
                (kind, _) if field.is_nullable() => format!("Nullable({kind})"),
                (kind, _) => kind.to_owned(),
            };
            format!("{} {kind} CODEC({codec})", field.name())
        });
        let declared = declared.collect::<Vec<_>>().join(", ");
        let create =
            format!("CREATE TABLE {table} ({declared}) ENGINE = MergeTree ORDER BY (tenant, device, time)");
        // A few files at once keep its memory small.
        let inserts = files.chunks(32).map(|files| {
            let names = names.join(", ");
            let parts = files.iter().map(|file| format!("SELECT {names} FROM file({file}, 'Parquet')"));
            format!("INSERT INTO {table} {}", parts.collect::<Vec<_>>().join(" UNION ALL "))
        });
        [create].into_iter().chain(inserts).chain([format!("OPTIMIZE TABLE {table} FINAL")]).collect()
    }
}
