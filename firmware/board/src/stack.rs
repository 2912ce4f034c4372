//! How much of the stack was ever used: it is painted at the start, and what is not painted any more was used.

use core::ptr;

const PAINT: u32 = 0x5a47_4d41;

unsafe extern "C" {
    /// The end of the stack that the linker script gives, which is its lowest address.
    static mut _stack_end: u32;
    static mut _stack_start: u32;
}

/// Bytes below the caller's frame that are left unpainted, as they may be in use.
const SPARED_BYTES: usize = 256;

/// Paints what is not used yet. To be called first of all.
#[inline(never)]
pub fn paint() {
    let mut place = ptr::addr_of_mut!(_stack_end);
    let end = cortex_m::register::msp::read() as usize - SPARED_BYTES;
    while (place as usize) < end {
        // SAFETY: between the end of the stack and the spared part of it there is nothing but free stack.
        unsafe {
            place.write_volatile(PAINT);
            place = place.add(1);
        }
    }
}

/// Most bytes of the stack that were in use at one time.
pub fn used_bytes() -> usize {
    let mut place = ptr::addr_of!(_stack_end);
    let start = ptr::addr_of!(_stack_start) as usize;
    // SAFETY: the stack is memory from its end to its start.
    while (place as usize) < start && unsafe { place.read_volatile() } == PAINT {
        // SAFETY: as above.
        place = unsafe { place.add(1) };
    }
    start - place as usize
}
