//! A magnetometer that speaks over UART 1, in the place of one at an I2C bus, which the emulator lacks.
//!
//! A sample is the byte `A5` and three little-endian 16-bit numbers, in units of 10 nT.

use zeugma_firmware::{
    apps::bay::{Field, Magnetometer},
    serial::Serial,
};

const START: u8 = 0xA5;
const SAMPLE_BYTES: usize = 7;
const NT_PER_UNIT: f32 = 10.0;

/// The newest sample that came over `P`.
pub struct HeardField<P> {
    port: P,
    sample: heapless::Vec<u8, SAMPLE_BYTES>,
    newest: Option<Field>,
}

impl<P: Serial> HeardField<P> {
    /// Waits for the first sample.
    pub fn new(port: P) -> HeardField<P> {
        HeardField { port, sample: heapless::Vec::new(), newest: None }
    }

    fn hear(&mut self, byte: u8) {
        if self.sample.is_empty() && byte != START {
            return;
        }
        // There is room: a full sample is taken at once.
        let _ = self.sample.push(byte);
        if let [_, x0, x1, y0, y1, z0, z1] = *self.sample {
            let field =
                [[x0, x1], [y0, y1], [z0, z1]].map(|pair| f32::from(i16::from_le_bytes(pair)) * NT_PER_UNIT);
            self.newest = Some(field);
            self.sample.clear();
        }
    }
}

impl<P: Serial> Magnetometer for HeardField<P> {
    fn read(&mut self) -> Option<(Field, Option<f32>)> {
        while let Some(byte) = self.port.next() {
            self.hear(byte);
        }
        // Each sample is told once: a chip that falls silent does not answer any more.
        self.newest.take().map(|field| (field, None))
    }
}
