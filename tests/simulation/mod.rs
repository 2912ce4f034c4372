//! A seeded simulation: journal, acceptance, tail, committer and seam on one thread, over a disk and a
//! store that fail in every way we know of, and an oracle that remembers what was acknowledged.
//!
//! - [`disk`] - tears, fills, fails to sync
//! - [`store`] - goes away, refuses, loses answers, is slow
//! - [`devices`] - new readings, repeats, late ones, conflicts, nonsense
//! - [`oracle`] - what must be found, by the rule of identity
//! - [`process`] - what `zeugma ingest` is made of, on that disk and over that store
//! - [`sight`] - what a question sees
//! - [`world`] - one step after the other, as chance has it
//!
//! Everything that happens follows from the seed, so the same seed gives the same trace.

pub mod devices;
pub mod disk;
pub mod oracle;
mod process;
mod sight;
pub mod store;
pub mod world;

/// Runs one seed to its end; answers what happened, step by step.
///
/// # Errors
/// What is wrong, with the trace up to there.
pub fn run(seed: u64, steps: usize) -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut world = world::World::new(seed).await;
        match world.run(steps).await {
            Ok(()) => Ok(world.trace),
            Err(wrong) => Err(format!("{}\nseed {seed}: {wrong}", world.trace.join("\n"))),
        }
    })
}
