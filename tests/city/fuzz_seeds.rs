//! The seeds of the fuzz targets: they are what their program makes, and each passes its target.

use std::{collections::BTreeMap, fs, path::PathBuf};

use zeugma_tests::peers;

// The targets are a workspace of their own; what they check is checked here with the stable compiler too.
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

/// Targets whose check needs more than the library: their seeds are made here, and run by `.ci/fuzz` only.
const OTHERS: [&str; 1] = ["broker"];

fn folder(target: &str) -> PathBuf {
    peers::root().join("fuzz/seeds").join(target)
}

/// The seeds in the repository, by name.
fn kept(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect()
}

/// One frame of each domain with all its fields, as fastavro writes it.
fn of_fastavro() -> Vec<fuzz::seeds::Seed> {
    let lines = peers::python("golden.py", &[&peers::root().join("schemas").display().to_string()]);
    let mut frames = BTreeMap::new();
    for line in lines.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let full = entry["values"].as_object().unwrap().values().all(|value| !value.is_null());
        let hex = entry["hex"].as_str().unwrap();
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        if full {
            let name = format!("fastavro-{}", entry["domain"].as_str().unwrap());
            frames.entry(name).or_insert_with(|| bytes.collect());
        }
    }
    frames.into_iter().collect()
}

#[test]
fn every_seed_passes_its_target() {
    for (target, check) in fuzz::TARGETS {
        for (name, input) in kept(target) {
            let passed = std::panic::catch_unwind(|| check(&input));
            assert!(passed.is_ok(), "fuzz/seeds/{target}/{name}");
        }
    }
}

/// Writes them instead where `ZEUGMA_WRITE_SEEDS` is set. What was found by fuzzing is kept beside them.
#[test]
fn seeds_are_those_that_their_program_and_fastavro_make() {
    for target in fuzz::TARGETS.map(|(target, _)| target).into_iter().chain(OTHERS) {
        let mut made = fuzz::seeds::of(target);
        if target == "avro" {
            made.extend(of_fastavro());
        }
        if std::env::var_os("ZEUGMA_WRITE_SEEDS").is_some() {
            fs::create_dir_all(folder(target)).unwrap();
            made.iter().for_each(|(name, input)| fs::write(folder(target).join(name), input).unwrap());
        }
        let mut kept = kept(target);
        kept.retain(|name, _| !name.starts_with("found-"));
        assert!(!made.is_empty());
        assert_eq!(kept, made.into_iter().collect(), "ZEUGMA_WRITE_SEEDS=1 writes the seeds of {target}");
    }
}
