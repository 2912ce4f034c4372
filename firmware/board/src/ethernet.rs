//! The Ethernet controller of the chip: one frame in, one frame out, through one data register.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};

use crate::{
    interrupts::Interrupt,
    registers::{mac, system},
    sleep,
};

/// An Ethernet frame without its checksum.
const FRAME_BYTES_MAX: usize = 1514;
const HEADER_BYTES: usize = 14;

/// Bytes that stand around a received frame: its length before, its checksum behind.
const AROUND_BYTES: usize = 6;

const RECEIVED: u32 = 1;

/// The controller, and a place for one frame.
pub struct Ethernet {
    address: [u8; 6],
    frame: [u8; FRAME_BYTES_MAX + 2],
}

impl Ethernet {
    /// Starts the controller under a hardware address. To be called once.
    pub fn start(address: [u8; 6]) -> Ethernet {
        system::RCGC2.set((1 << 28) | (1 << 30));
        let [a, b, c, d, e, f] = address;
        mac::ADDRESS_0.write(u32::from_le_bytes([a, b, c, d]));
        mac::ADDRESS_1.write(u32::from_le_bytes([e, f, 0, 0]));
        // Frames for us and for all; what is received in error is left out. FIFO emptied.
        mac::RECEIVE_CONTROL.write((1 << 4) | (1 << 3) | 1);
        // Full duplex, checksum and padding by the controller.
        mac::TRANSMIT_CONTROL.write((1 << 4) | (1 << 2) | (1 << 1) | 1);
        mac::STATUS.write(u32::MAX);
        mac::INTERRUPT_MASK.write(RECEIVED);
        Interrupt::Ethernet.enable();
        Ethernet { address, frame: [0; FRAME_BYTES_MAX + 2] }
    }
}

impl Driver for Ethernet {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Transmit;

    fn receive(&mut self, _context: &mut Context<'_>) -> Option<(Received<'_>, Transmit)> {
        if mac::FRAMES.read() == 0 {
            mac::INTERRUPT_MASK.write(RECEIVED);
            return None;
        }
        let len = receive(&mut self.frame);
        Some((Received(&mut self.frame[..len]), Transmit))
    }

    fn transmit(&mut self, _context: &mut Context<'_>) -> Option<Transmit> {
        // Sending waits for the wire, so the FIFO is always free.
        Some(Transmit)
    }

    fn link_state(&mut self, _context: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_BYTES_MAX;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// Reads one frame from the FIFO; answers its length. A longer one than fits is cut, and its checksum in TCP fails.
fn receive(frame: &mut [u8]) -> usize {
    let first = mac::DATA.read();
    let whole = (first & 0xffff) as usize;
    let len = whole.saturating_sub(AROUND_BYTES).min(frame.len());
    let mut place = frame.iter_mut();
    let mut put = |bytes: &[u8]| {
        bytes.iter().for_each(|byte| {
            if let Some(place) = place.next() {
                *place = *byte
            }
        })
    };
    put(&first.to_le_bytes()[2..]);
    // The length counts itself; words are read whole.
    for _ in 1..whole.div_ceil(4) {
        put(&mac::DATA.read().to_le_bytes());
    }
    len
}

/// A frame that came.
pub struct Received<'f>(&'f mut [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, work: F) -> R {
        work(self.0)
    }
}

/// The right to send a frame.
pub struct Transmit;

impl TxToken for Transmit {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, work: F) -> R {
        // Two bytes of length stand before the frame; words are written whole.
        let mut buf = [0; (FRAME_BYTES_MAX + 2).next_multiple_of(4)];
        let output = work(&mut buf[2..2 + len]);
        let data_len = len.saturating_sub(HEADER_BYTES) as u16;
        buf[..2].copy_from_slice(&data_len.to_le_bytes());
        while mac::TRANSMIT.read() & 1 != 0 {}
        for word in buf[..(2 + len).next_multiple_of(4)].chunks_exact(4) {
            mac::DATA.write(u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
        mac::TRANSMIT.write(1);
        output
    }
}

// SAFETY: the name is that of the vector table's entry, and nobody else gives it.
#[unsafe(export_name = "ETHERNET")]
extern "C" fn frame_came() {
    // Off until the task has fetched all frames.
    mac::INTERRUPT_MASK.write(0);
    mac::STATUS.write(RECEIVED);
    sleep::wake_all();
}
