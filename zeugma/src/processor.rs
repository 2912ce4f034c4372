//! Whether this processor knows the instructions that the program was built to use, asked before any of them is met:
//! the system would only say "illegal instruction".
//!
//! `.cargo/config.toml` builds for x86-64-v3 (docs/decisions/0013-processor.md). The compiler takes its instructions
//! for granted then, and so does `is_x86_feature_detected!`; here the processor itself is asked.

use std::arch::x86_64::{__cpuid, __cpuid_count};

/// Why the program cannot run here.
///
/// # Errors
/// What to do, where the processor lacks something.
pub fn check() -> Result<(), String> {
    match missing(&Answers::of_this_processor()).as_slice() {
        [] => Ok(()),
        missing => Err(format!(
            "this processor has no {}, which the program was built to use. In a virtual machine, give it the host's type of processor; \
             else build it here: RUSTFLAGS=\"-C target-cpu=native\" cargo build --release",
            missing.join(", ")
        )),
    }
}

/// What CPUID says of a processor (Intel's "Software Developer's Manual", volume 2A, CPUID).
struct Answers {
    /// ECX of leaf 1.
    features: u32,
    /// EBX of leaf 7.
    more_features: u32,
    /// ECX of leaf 0x8000_0001.
    amd_features: u32,
}

impl Answers {
    fn of_this_processor() -> Answers {
        let is_known = |leaf: u32| __cpuid(leaf & 0x8000_0000).eax >= leaf;
        Answers {
            features: __cpuid(1).ecx,
            more_features: if is_known(7) { __cpuid_count(7, 0).ebx } else { 0 },
            amd_features: if is_known(0x8000_0001) { __cpuid(0x8000_0001).ecx } else { 0 },
        }
    }
}

/// What x86-64-v3 has beyond v2 and this processor has not (System V ABI, "Micro-Architecture Levels").
fn missing(answers: &Answers) -> Vec<&'static str> {
    let Answers { features, more_features, amd_features } = *answers;
    let needed = [
        ("avx", features, 28),
        ("avx2", more_features, 5),
        ("bmi1", more_features, 3),
        ("bmi2", more_features, 8),
        ("f16c", features, 29),
        ("fma", features, 12),
        ("lzcnt", amd_features, 5),
        ("movbe", features, 22),
    ];
    needed.into_iter().filter(|(_, bits, bit)| bits & (1 << bit) == 0).map(|(name, ..)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_processor_lacks_is_named() {
        let all = Answers { features: u32::MAX, more_features: u32::MAX, amd_features: u32::MAX };
        assert!(missing(&all).is_empty());
        assert_eq!(missing(&Answers { more_features: !(1 << 5), ..all }), ["avx2"]);
        assert_eq!(missing(&Answers { amd_features: 0, ..all }), ["lzcnt"]);
    }

    #[test]
    fn processor_that_runs_this_test_is_enough() {
        assert_eq!(check(), Ok(()));
    }
}
