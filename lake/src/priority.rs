//! Work that nobody waits for gives way to acknowledgements and answers.

/// Lets this thread have a quarter of a processor that others want too (setpriority(2)).
pub fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 5) {
        tracing::debug!(%error, "a thread that should give way keeps its priority");
    }
}
