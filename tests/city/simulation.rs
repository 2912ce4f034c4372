//! Seeds of the simulation: whatever fails, nothing acknowledged is lost and nothing is there twice.

use zeugma_tests::simulation::run;

const SEEDS: u64 = 200;
const STEPS: usize = 120;

#[test]
fn two_hundred_seeds_lose_nothing_and_double_nothing() {
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |cores| cores.get()) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    if let Err(wrong) = run(seed, STEPS) {
                        panic!(
                            "{wrong}\nagain with: cargo run --release -p zeugma-tests --bin simulation -- \
                             --seed {seed} --steps {STEPS}"
                        );
                    }
                }
            });
        }
    });
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in [3, 33, 333] {
        assert_eq!(run(seed, STEPS).unwrap(), run(seed, STEPS).unwrap());
    }
}
