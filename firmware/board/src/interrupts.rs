//! The vector table of the LM3S6965's interrupts, as far as the board uses them (data sheet, table 2-9).

use cortex_m::interrupt::InterruptNumber;

/// An interrupt of the chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Interrupt {
    Uart1 = 6,
    Timer0A = 19,
    Ethernet = 42,
}

// SAFETY: these are numbers of the chip's table, and stay what they are.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

impl Interrupt {
    /// Lets it happen from now on.
    pub(crate) fn enable(self) {
        // SAFETY: no code of the board relies on an interrupt staying away; critical sections mask all of them.
        unsafe { cortex_m::peripheral::NVIC::unmask(self) }
    }
}

/// One entry of the table.
#[derive(Clone, Copy)]
pub union Vector {
    handler: unsafe extern "C" fn(),
    reserved: usize,
}

unsafe extern "C" {
    fn UART1();
    fn TIMER0A();
    fn ETHERNET();
    fn DefaultHandler();
}

/// The table that cortex-m-rt places behind the processor's own vectors.
// SAFETY: the name and the section are those that cortex-m-rt asks for, and nobody else gives them.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
pub static __INTERRUPTS: [Vector; 44] = {
    let mut table = [Vector { handler: DefaultHandler }; 44];
    table[Interrupt::Uart1 as usize] = Vector { handler: UART1 };
    table[Interrupt::Timer0A as usize] = Vector { handler: TIMER0A };
    table[Interrupt::Ethernet as usize] = Vector { handler: ETHERNET };
    table[43] = Vector { reserved: 0 };
    table
};
