//! What is printed to standard output. Whoever reads it may leave early, as `head` does: that is no error.

use std::io::{ErrorKind, Result, Write};

/// Prints a text as it is.
///
/// # Errors
/// Where standard output cannot be written for another reason than that nobody reads it any more.
pub fn text(text: &str) -> Result<()> {
    bytes(text.as_bytes())
}

/// Prints a text and ends the line.
///
/// # Errors
/// As [`text`].
pub fn line(text: &str) -> Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes as they are.
///
/// # Errors
/// As [`text`].
pub fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
