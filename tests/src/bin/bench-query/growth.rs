//! Questions about one tenant, while the country's history grows.

use crate::{
    Args, country,
    ours::{ask, ours},
    question::Dialect,
    race::median,
};

/// Of all rows, the parts of which the country is made.
const PARTS: [u64; 3] = [10, 3, 1];

/// Asks the questions that must not grow, of a tenth, a third and all of the rows.
pub async fn measure(args: &Args) -> anyhow::Result<()> {
    let mut lakes = Vec::new();
    for part in PARTS {
        let days = country::days_of(args.rows / part);
        lakes.push((days, ours(&country::lake(args, days).await?)?));
    }
    println!("\n## growth: the same question after more and more days, and how long it is planned\n");
    println!(
        "| question | {} | most / least (aim 1.5) |",
        lakes.iter().map(|(days, _)| format!("{days} days (ms)")).collect::<Vec<_>>().join(" | ")
    );
    println!("|---|--:|--:|--:|--:|");
    let questions = country::growing().into_iter().map(|question| {
        let sql = question.sql(Dialect::Ours);
        [
            (question.name.to_owned(), sql.clone()),
            (format!("{}: its plan", question.name), format!("EXPLAIN {sql}")),
        ]
    });
    for (name, sql) in questions.flatten() {
        let mut times = vec![Vec::new(); lakes.len()];
        // Once more than is counted: the first time is cold.
        for round in 0..=args.rounds {
            for ((_, query), times) in lakes.iter().zip(&mut times) {
                let (ms, _) = ask(query, &sql).await?;
                if round > 0 {
                    times.push(ms);
                }
            }
        }
        let medians: Vec<f64> = times.iter().map(|times| median(times)).collect();
        let (least, most) =
            medians.iter().fold((f64::MAX, 0f64), |(least, most), ms| (least.min(*ms), most.max(*ms)));
        let shown = medians.iter().map(|ms| format!("{ms:.2}")).collect::<Vec<_>>().join(" | ");
        println!("| {name} | {shown} | {:.2} |", most / least);
    }
    Ok(())
}
