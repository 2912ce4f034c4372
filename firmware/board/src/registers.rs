//! The registers of the LM3S6965 that the board uses (Stellaris LM3S6965 Microcontroller Data Sheet).

/// One 32-bit register.
#[derive(Clone, Copy)]
pub(crate) struct Register(usize);

impl Register {
    /// The register at `address`, which is one of those of this file.
    const fn at(address: usize) -> Register {
        Register(address)
    }

    pub(crate) fn read(self) -> u32 {
        // SAFETY: `at` is private to this file, where all addresses are those of the data sheet, and aligned.
        unsafe { (self.0 as *const u32).read_volatile() }
    }

    pub(crate) fn write(self, value: u32) {
        // SAFETY: as for `read`; no register here writes memory on its own.
        unsafe { (self.0 as *mut u32).write_volatile(value) }
    }

    pub(crate) fn set(self, bits: u32) {
        self.write(self.read() | bits);
    }
}

/// System control, chapter 6.
pub(crate) mod system {
    use super::Register;

    /// Run-mode clock configuration.
    pub(crate) const RCC: Register = Register::at(0x400F_E060);
    /// Clocks of UARTs and timers.
    pub(crate) const RCGC1: Register = Register::at(0x400F_E104);
    /// Clocks of Ethernet and GPIO.
    pub(crate) const RCGC2: Register = Register::at(0x400F_E108);
}

/// General-purpose timer 0, chapter 10.
pub(crate) mod timer {
    use super::Register;

    pub(crate) const CONFIG: Register = Register::at(0x4003_0000);
    pub(crate) const MODE_A: Register = Register::at(0x4003_0004);
    pub(crate) const CONTROL: Register = Register::at(0x4003_000C);
    pub(crate) const INTERRUPT_MASK: Register = Register::at(0x4003_0018);
    pub(crate) const INTERRUPT_CLEAR: Register = Register::at(0x4003_0024);
    pub(crate) const LOAD_A: Register = Register::at(0x4003_0028);
}

/// A UART, chapter 12.
#[derive(Clone, Copy)]
pub(crate) struct Uart {
    pub(crate) data: Register,
    pub(crate) flags: Register,
    pub(crate) line_control: Register,
    pub(crate) control: Register,
    pub(crate) interrupt_mask: Register,
    pub(crate) interrupt_clear: Register,
}

impl Uart {
    const fn at(base: usize) -> Uart {
        Uart {
            data: Register::at(base),
            flags: Register::at(base + 0x18),
            line_control: Register::at(base + 0x2C),
            control: Register::at(base + 0x30),
            interrupt_mask: Register::at(base + 0x38),
            interrupt_clear: Register::at(base + 0x44),
        }
    }
}

pub(crate) const UART0: Uart = Uart::at(0x4000_C000);
pub(crate) const UART1: Uart = Uart::at(0x4000_D000);

/// The Ethernet controller, chapter 16.
pub(crate) mod mac {
    use super::Register;

    /// Raw interrupt status; writing ones acknowledges.
    pub(crate) const STATUS: Register = Register::at(0x4004_8000);
    pub(crate) const INTERRUPT_MASK: Register = Register::at(0x4004_8004);
    pub(crate) const RECEIVE_CONTROL: Register = Register::at(0x4004_8008);
    pub(crate) const TRANSMIT_CONTROL: Register = Register::at(0x4004_800C);
    /// Both FIFOs.
    pub(crate) const DATA: Register = Register::at(0x4004_8010);
    pub(crate) const ADDRESS_0: Register = Register::at(0x4004_8014);
    pub(crate) const ADDRESS_1: Register = Register::at(0x4004_8018);
    /// How many frames wait in the receive FIFO.
    pub(crate) const FRAMES: Register = Register::at(0x4004_8034);
    /// Starts to send what is in the transmit FIFO.
    pub(crate) const TRANSMIT: Register = Register::at(0x4004_8038);
}
