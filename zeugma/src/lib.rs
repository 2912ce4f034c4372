//! The program: one binary, wiring only.
//!
//! - [`cli`] - the commands and their flags
//! - [`config_file`] - `--config FILE.toml`: the same flags, from a file
//! - [`limits`] - how much devices may take
//! - [`server`] - ingest and query, together or apart, on their ports
//! - [`asking`] - what `zeugma query` answers from
//! - [`notify`] - what systemd is told
//! - [`log_json`] - log lines as JSON
//! - [`demo`] - a server on a temporary folder, and a simulated country
//! - [`simulate`] - virtual devices that run the firmware
//! - [`replay`] - real files through MQTT
//! - [`say`] - what is printed
//! - [`sql`] - a question to a running server
//! - [`dead_letters`] - what was refused: counted, and put through acceptance again
//! - [`erase`] - what is erased, the proof of it, and who is blocked
//! - [`retention`] - how long readings are kept
//! - [`compact`] - the files of dates that belong together become one
//! - [`writer`] - the server that writes, as these commands reach it
//! - [`reports`] - what a server tells of work that takes long
//! - [`journal`] - what lies in a data folder's journal

pub mod asking;
pub mod cli;
pub mod compact;
pub mod config_file;
pub mod dead_letters;
pub mod demo;
pub mod device;
pub mod erase;
pub mod journal;
pub mod limits;
pub mod log_json;
pub mod notify;
pub mod replay;
pub mod reports;
pub mod retention;
pub mod say;
pub mod server;
pub mod simulate;
pub mod sql;
pub mod writer;

/// The program was called wrongly; nothing was done, no port was opened. Ends with exit code 64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);
