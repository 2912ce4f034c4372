//! Bytes a reading takes on disk: real buses and real meters, that went in over MQTT.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Parser;
use tokio_util::sync::CancellationToken;
use zeugma::{
    cli::{Cli, Command},
    replay,
};
use zeugma_lake::{Lake, Lease};
use zeugma_tests::{City, peers};

use crate::{Args, answer::Value, database::Database, keep, question::Dialect, race};

/// Largest ratios that we want, to each peer.
const AIMS: [f64; 2] = [0.6, 1.0];

/// Replays what there is, and compares how many bytes a reading takes.
pub async fn measure(args: &Args) -> anyhow::Result<()> {
    let Some(data) = peers::real_data() else {
        println!("\nno bytes a reading: the real data is not here; set ZEUGMA_REAL_DATA to its folder");
        return Ok(());
    };
    let folder = args.data.join("disk");
    let lake = lake(&folder, &data).await?;
    println!("\n## bytes a reading on disk\n");
    println!("| readings | rows | ours | DuckDB | ratio (aim) | ClickHouse | ratio (aim) |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for (table, name) in [("fleet", "Austin buses"), ("energy", "Swiss meters")] {
        let snapshot = lake.table(table).load().await?;
        let rows: u64 = snapshot.files().iter().filter_map(|file| file.rows).sum();
        let bytes: u64 = snapshot.files().iter().map(|file| file.size).sum();
        let ours = bytes as f64 / rows as f64;
        print!("| {name} | {rows} | {ours:.1} |");
        if !args.alone {
            let place = folder.join(table);
            std::fs::create_dir_all(&place)?;
            for (mut peer, aim) in race::load(args, &place, &lake, &[table]).await?.into_iter().zip(AIMS) {
                let theirs = bytes_of(&mut peer, &place, table)? / rows as f64;
                let missed = if ours / theirs > aim { " **missed**" } else { "" };
                print!(" {theirs:.1} | {:.2} ({aim}){missed} |", ours / theirs);
            }
        }
        println!();
    }
    Ok(())
}

/// What a peer's only table takes.
fn bytes_of(peer: &mut Database, place: &Path, table: &str) -> anyhow::Result<f64> {
    if peer.dialect == Dialect::DuckDb {
        return Ok(std::fs::metadata(place.join("duckdb.db"))?.len() as f64);
    }
    let sql = format!("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = '{table}'");
    match peer.ask(&sql, true)?.columns.as_deref() {
        Some([column]) if let [Value::Number(bytes)] = column[..] => Ok(bytes),
        other => bail!("how large `{table}` is cannot be read: {other:?}"),
    }
}

/// The lake, filled by a city through its door and compacted, unless it is there.
async fn lake(folder: &Path, data: &Path) -> anyhow::Result<Lake> {
    let (root, done) = (folder.join("lake"), folder.join("lake-done"));
    if done.exists() {
        return Ok(Lake::open(&root.display().to_string()).await?);
    }
    println!("replaying buses and meters");
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(&root)?;
    let mut city = City::with(|args| args.place.lake = Some(root.display().to_string())).await;
    let swiss = folder.join("swiss.csv");
    let mut script = texts(&files(&data.join("energy/swiss_15min_537_households"))?);
    script.extend(["--out".to_owned(), swiss.display().to_string()]);
    peers::python("prepare_swiss.py", &script.iter().map(String::as_str).collect::<Vec<_>>());
    replay(
        &city,
        &files(&data.join("fleet/capmetro_austin_bus"))?,
        "--tenant austin --domain fleet --device-column vehicle_id --time-column timestamp \
         --map latitude=latitude --map longitude=longitude --map speed_kmh=speed*3.6",
    )
    .await?;
    replay(
        &city,
        &[swiss],
        "--tenant basel --domain energy --device-column device --time-column time \
         --map energy_import_wh=energy_import_wh --map active_power_w=active_power_w",
    )
    .await?;
    city.stop().await;
    let lake = Lake::open(&root.display().to_string()).await?;
    let lease = Lease::take(lake.store(), keep::SOURCE, i64::MAX / 2).await?;
    for domain in lake.domains().await?.iter().filter(|domain| ["fleet", "energy"].contains(&domain.name())) {
        let table = lake.table(domain.name());
        table.fence(&lease).await?;
        keep::compact(&table, domain, &lease).await?;
    }
    std::fs::write(done, "")?;
    Ok(lake)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "gz"));
    files.sort();
    Ok(files)
}

fn texts(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file| file.display().to_string()).collect()
}

/// `zeugma replay` with these flags.
async fn replay(city: &City, files: &[PathBuf], flags: &str) -> anyhow::Result<()> {
    let words = ["zeugma", "replay"].map(str::to_owned).into_iter().chain(texts(files));
    let words = words.chain(flags.split_whitespace().map(str::to_owned));
    let words = words.chain(["--mqtt".to_owned(), city.mqtt().to_string()]);
    let Command::Replay(args) = Cli::try_parse_from(words.map(OsString::from))?.command else {
        bail!("another command");
    };
    replay::run(&args, CancellationToken::new()).await?;
    Ok(())
}
