//! Gives the linker the memory map and the vector table, whatever `RUSTFLAGS` says.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::copy("memory.x", out.join("memory.x")).expect("the memory map can be copied");
    // The interrupts are named in `src/interrupts.rs`; cortex-m-rt asks for this file in any case.
    fs::write(out.join("device.x"), "").expect("a file can be written");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rerun-if-changed=memory.x");
}
