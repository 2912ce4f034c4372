//! The program
fn main() {}
