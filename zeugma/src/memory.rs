//! Memory that was let go goes back to the system by a thread of its own.
//!
//! The allocator keeps what is freed for a second, and then gives back all of it at once, on whichever thread comes by:
//! tens of megabytes, which stops a thread that takes readings for up to 40 ms. So it keeps it until it is told, and a
//! thread that gives way to all others tells it all the time.

use std::{ffi::c_long, time::Duration};

use zeugma_lake::priority::Priority;

/// How often memory goes back. At full speed some 100 MB are let go in the second that the allocator would keep them.
const EVERY: Duration = Duration::from_millis(250);

/// How long the allocator keeps what is freed where nobody tells it: a day, which is never.
const KEPT_MS: c_long = 24 * 3_600 * 1_000;

/// `mi_option_purge_delay` of mimalloc 3 (`mi_option_e` in its mimalloc.h); the crate names only options of its first one.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Starts it; for the rest of the process.
pub fn give_back() {
    // What cannot have a thread of its own is as the allocator has it.
    let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(|| {
        Priority::Sometime.take();
        loop {
            std::thread::sleep(EVERY);
            collect();
        }
    });
    if thread.is_ok() {
        keep();
    }
}

#[expect(unsafe_code, reason = "a call of C that takes two numbers; the option may be set at any time")]
fn keep() {
    // SAFETY: sets an integer of the allocator's.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT_MS) };
}

#[expect(unsafe_code, reason = "a call of C that takes a truth value; any thread may make it")]
fn collect() {
    // SAFETY: looks after memory of this thread and what no thread holds.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
