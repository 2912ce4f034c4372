//! The same questions to all, in turns; and the table of what came out.

use std::{path::Path, time::Instant};

use anyhow::Context;
use zeugma_lake::Lake;
use zeugma_query::Query;

use crate::{
    Args, answer,
    database::Database,
    ours::{ask, ours},
    question::{Dialect, Question},
};

/// The peers.
const PEERS: [Dialect; 2] = [Dialect::DuckDb, Dialect::ClickHouse];

/// How long one side took for a question.
struct Times {
    cold_ms: f64,
    warm_ms: Vec<f64>,
}

/// Loads the tables of a lake into the peers, asks all, and prints the table.
pub async fn run(
    title: &str,
    args: &Args,
    folder: &Path,
    lake: &Lake,
    tables: &[&str],
    questions: &[Question],
) -> anyhow::Result<()> {
    let mut peers = match args.alone {
        true => Vec::new(),
        false => load(args, folder, lake, tables).await?,
    };
    let query = ours(lake)?;
    println!("\n## {title}\n");
    println!(
        "| question | rows of the answer | ours cold, warm (ms) | DuckDB | ratio (aim) | ClickHouse | ratio (aim) |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let mut ratios = vec![Vec::new(); PEERS.len()];
    let asked = |question: &&Question| {
        args.question.as_ref().is_none_or(|part| question.name.contains(part.as_str()))
    };
    for question in questions.iter().filter(asked) {
        let found = ask_all(question, &query, &mut peers, args.rounds).await;
        let found = match found.with_context(|| question.name) {
            Ok(found) => found,
            Err(error) => {
                println!("| {} | no time counts: {error:#} |", question.name);
                continue;
            }
        };
        print_line(question, &found, &mut ratios);
    }
    for (peer, ratios) in PEERS.iter().zip(&ratios).filter(|(_, ratios)| !ratios.is_empty()) {
        println!("\ngeometric mean of the ratios to {}: {:.2}", peer.name(), geometric_mean(ratios));
    }
    Ok(())
}

struct Found {
    rows: usize,
    ours: Times,
    peers: Vec<Times>,
}

/// Everybody once while it is cold, compared; then in turns.
async fn ask_all(
    question: &Question,
    query: &Query,
    peers: &mut [Database],
    rounds: usize,
) -> anyhow::Result<Found> {
    let (cold_ms, columns) = ask(query, &question.sql(Dialect::Ours)).await?;
    let mut found = Found {
        rows: columns.first().map_or(0, Vec::len),
        ours: Times { cold_ms, warm_ms: Vec::new() },
        peers: Vec::new(),
    };
    for peer in peers.iter_mut() {
        let reply = peer.ask(&question.sql(peer.dialect), true)?;
        answer::check_equal(&columns, &reply.columns.unwrap_or_default()).context(peer.dialect.name())?;
        found.peers.push(Times { cold_ms: reply.ms, warm_ms: Vec::new() });
    }
    for _ in 0..rounds {
        found.ours.warm_ms.push(ask(query, &question.sql(Dialect::Ours)).await?.0);
        for (peer, times) in peers.iter_mut().zip(&mut found.peers) {
            times.warm_ms.push(peer.ask(&question.sql(peer.dialect), false)?.ms);
        }
    }
    Ok(found)
}

fn print_line(question: &Question, found: &Found, ratios: &mut [Vec<f64>]) {
    let ours = median(&found.ours.warm_ms);
    print!("| {} | {} | {:.1}, {:.1} |", question.name, found.rows, found.ours.cold_ms, ours);
    let aims = [question.aims.0, question.aims.1];
    for ((times, aim), ratios) in found.peers.iter().zip(aims).zip(ratios) {
        let theirs = median(&times.warm_ms);
        let ratio = ours / theirs;
        print!(" {:.1}, {theirs:.1} | {} |", times.cold_ms, against(ratio, aim));
        ratios.push(ratio);
    }
    println!();
}

/// A ratio beside the largest that we want.
pub fn against(ratio: f64, aim: f64) -> String {
    format!("{ratio:.2} ({aim}){}", if ratio > aim { " **missed**" } else { "" })
}

/// The middle of some values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of all lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[(values.len() as f64 * share) as usize]
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

/// The peers with the lake's tables, loaded now or in an earlier run.
pub async fn load(args: &Args, folder: &Path, lake: &Lake, tables: &[&str]) -> anyhow::Result<Vec<Database>> {
    let domains = lake.domains().await?;
    let mut peers = Vec::new();
    for dialect in PEERS {
        let mut peer = Database::open(dialect, &args.data, folder)?;
        for table in tables {
            let done = folder.join(format!("{}-{table}-done", dialect.name()));
            if !done.exists() {
                let started = Instant::now();
                let snapshot = lake.table(table).load().await?;
                // From the root of the machine, as the lake lies in a folder.
                let files = snapshot.files().iter().map(|file| format!("/{}", file.path));
                let columns = domains.get(table).context("a domain of the lake")?.columns();
                peer.load(table, columns, &files.collect::<Vec<_>>())?;
                std::fs::write(done, "")?;
                println!(
                    "{table} loaded into {} in {:.0} s",
                    dialect.name(),
                    started.elapsed().as_secs_f64()
                );
            }
        }
        peers.push(peer);
    }
    Ok(peers)
}
