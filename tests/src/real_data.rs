//! Real vehicles, car parks and meters, which are not part of the project, and how they go in over MQTT.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use tokio_util::sync::CancellationToken;
use zeugma::{
    cli::{Cli, Command},
    replay,
};

use crate::peers;

/// The buses of Austin, and how `zeugma replay` is told what their columns mean.
pub const AUSTIN: &str = "fleet/capmetro_austin_bus";
/// Of the folder above.
pub const AUSTIN_FLAGS: &str = "--tenant austin --domain fleet --device-column vehicle_id --time-column timestamp \
                                --map latitude=latitude --map longitude=longitude --map speed_kmh=speed*3.6";

/// The meters of Switzerland, once [prepared](prepare_swiss).
pub const SWISS: &str = "energy/swiss_15min_537_households";
/// Of the prepared file.
pub const SWISS_FLAGS: &str = "--tenant basel --domain energy --device-column device --time-column time \
                               --map energy_import_wh=energy_import_wh --map active_power_w=active_power_w";

/// The files below a folder of the real data, by name; none where this machine does not have it.
///
/// # Errors
/// Where the real data is here, and this folder of it is not.
pub fn files(folder: &str) -> anyhow::Result<Option<Vec<PathBuf>>> {
    let Some(data) = peers::real_data() else { return Ok(None) };
    let folder = data.join(folder);
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "gz"));
    files.sort();
    Ok(Some(files))
}

/// Paths as arguments.
pub fn texts(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file| file.display().to_string()).collect()
}

/// Turns the wide weeks of the meters into readings, one a line.
pub fn prepare_swiss(files: &[PathBuf], out: PathBuf) -> PathBuf {
    let args = [texts(files), vec!["--out".to_owned(), out.display().to_string()]].concat();
    peers::python("prepare_swiss.py", &args.iter().map(String::as_str).collect::<Vec<_>>());
    out
}

/// `zeugma replay` with these flags.
///
/// # Errors
/// As the command has them.
pub async fn replay(mqtt: SocketAddr, files: &[PathBuf], flags: &[&str]) -> anyhow::Result<replay::Summary> {
    let words = ["zeugma", "replay"].map(str::to_owned).into_iter().chain(texts(files));
    let words = words.chain(flags.iter().map(ToString::to_string));
    let words = words.chain(["--mqtt".to_owned(), mqtt.to_string()]);
    let Command::Replay(args) = Cli::try_parse_from(words.map(OsString::from))?.command else {
        bail!("another command");
    };
    replay::run(&args, CancellationToken::new()).await
}
