//! How much of the stack was ever used: it is painted at the start, and what is not painted any more was used. And
//! who called whom, for a panic.

use core::ptr;

const PAINT: u32 = 0x5a47_4d41;

unsafe extern "C" {
    /// The end of the stack that the linker script gives, which is its lowest address.
    static mut _stack_end: u32;
    static mut _stack_start: u32;
    /// The beginning and the end of the code.
    static __stext: u32;
    static __etext: u32;
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

/// The calls on the stack, the innermost first; what only looks like one may be among them. Two bytes before where a
/// call returns to: behind one that never returns another function begins.
///
/// In the place of the source places of all panics, which would take 16 KB of flash: the image itself knows where its
/// addresses come from (`addr2line`).
pub fn calls() -> impl Iterator<Item = u32> {
    let here = cortex_m::register::msp::read() as usize;
    let start = ptr::addr_of!(_stack_start) as usize;
    // SAFETY: the stack is memory from here to its start.
    let words = (here..start).step_by(4).map(|place| unsafe { (place as *const u32).read_volatile() });
    words.filter(|word| is_behind_a_call(*word)).map(|word| (word & !1) - 2)
}

/// Whether the address is one of Thumb code behind a `bl` or a `blx` (ARMv7-M, A7.7.18 and A7.7.19).
fn is_behind_a_call(address: u32) -> bool {
    let (from, end) = (ptr::addr_of!(__stext) as u32, ptr::addr_of!(__etext) as u32);
    if address & 1 == 0 || !(from + 4..end).contains(&address) {
        return false;
    }
    let behind = address & !1;
    // SAFETY: this is code, which can be read.
    let half_word = |back: u32| unsafe { ((behind - back) as *const u16).read() };
    let (first, second) = (half_word(4), half_word(2));
    (first & 0xf800 == 0xf000 && second & 0xd000 == 0xd000) || second & 0xff87 == 0x4780
}
