//! Bytes a reading takes on disk: real buses and real meters, that went in over MQTT.

use std::path::{Path, PathBuf};

use anyhow::bail;
use zeugma_lake::Lake;
use zeugma_tests::{
    City,
    real_data::{self, AUSTIN, AUSTIN_FLAGS, SWISS, SWISS_FLAGS},
};

use crate::{Args, answer::Value, database::Database, keep, question::Dialect, race};

/// Largest ratios that we want, to each peer.
const AIMS: [f64; 2] = [0.6, 1.0];

/// Replays what there is, and compares how many bytes a reading takes.
pub async fn measure(args: &Args) -> anyhow::Result<()> {
    let (Some(buses), Some(meters)) = (real_data::files(AUSTIN)?, real_data::files(SWISS)?) else {
        println!("\nno bytes a reading: the real data is not here; set ZEUGMA_REAL_DATA to its folder");
        return Ok(());
    };
    let folder = args.data.join("disk");
    let lake = lake(&folder, &buses, &meters).await?;
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
                print!(" {theirs:.1} | {} |", race::against(ours / theirs, aim));
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
async fn lake(folder: &Path, buses: &[PathBuf], meters: &[PathBuf]) -> anyhow::Result<Lake> {
    let (root, done) = (folder.join("lake"), folder.join("lake-done"));
    if !done.exists() {
        println!("replaying buses and meters");
        keep::empty(folder)?;
        let mut city = City::with(|args| args.place.lake = Some(root.display().to_string())).await;
        let meters = [real_data::prepare_swiss(meters, folder.join("swiss.csv"))];
        for (files, flags) in [(buses, AUSTIN_FLAGS), (&meters[..], SWISS_FLAGS)] {
            let flags: Vec<&str> = flags.split_whitespace().collect();
            real_data::replay(city.mqtt(), files, &flags).await?;
        }
        city.stop().await;
        keep::compact(&Lake::open(&root.display().to_string()).await?).await?;
        std::fs::write(done, "")?;
    }
    Ok(Lake::open(&root.display().to_string()).await?)
}
