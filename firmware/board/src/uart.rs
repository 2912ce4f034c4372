//! UART 0 tells what happens; UART 1 hears the sensor.

use core::{cell::RefCell, fmt};

use critical_section::Mutex;
use heapless::Deque;
use zeugma_firmware::serial::Serial;

use crate::{
    interrupts::Interrupt,
    registers::{UART0, UART1, Uart, system},
    sleep,
};

const TX_FULL: u32 = 1 << 5;
const RX_EMPTY: u32 = 1 << 4;

/// 8 bits, FIFOs on.
const LINE: u32 = (3 << 5) | (1 << 4);

/// Receive and receive-timeout interrupts.
const RECEIVED: u32 = (1 << 4) | (1 << 6);

/// A tenth of a second at 115,200 baud is 1,152 bytes: so often the sensors listen.
const HEARD_BYTES: usize = 1536;

static HEARD: Mutex<RefCell<Deque<u8, HEARD_BYTES>>> = Mutex::new(RefCell::new(Deque::new()));

/// Starts both. To be called once.
pub fn start() {
    system::RCGC1.set(0b11);
    for uart in [UART0, UART1] {
        uart.line_control.write(LINE);
        uart.control.write(0x301);
    }
    UART1.interrupt_mask.write(RECEIVED);
    Interrupt::Uart1.enable();
}

/// Writes to UART 0 and waits for it.
pub struct Log;

impl fmt::Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while UART0.flags.read() & TX_FULL != 0 {}
            UART0.data.write(byte.into());
        }
        Ok(())
    }
}

/// Tells something on UART 0.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => {{
        use core::fmt::Write;
        // Writing to the UART cannot fail.
        let _ = writeln!($crate::uart::Log, $($part)*);
    }};
}

/// What came over UART 1; what nobody fetched in time is lost, the newest first.
pub struct Heard;

impl Serial for Heard {
    fn next(&mut self) -> Option<u8> {
        critical_section::with(|cs| HEARD.borrow_ref_mut(cs).pop_front())
    }
}

fn take(uart: Uart) -> Option<u8> {
    (uart.flags.read() & RX_EMPTY == 0).then(|| uart.data.read() as u8)
}

// SAFETY: the name is that of the vector table's entry, and nobody else gives it.
#[unsafe(export_name = "UART1")]
extern "C" fn heard() {
    UART1.interrupt_clear.write(RECEIVED);
    critical_section::with(|cs| {
        let mut heard = HEARD.borrow_ref_mut(cs);
        while let Some(byte) = take(UART1) {
            // Full: the sensor has not listened for too long, and will see a broken message.
            let _ = heard.push_back(byte);
        }
    });
    sleep::wake_all();
}
