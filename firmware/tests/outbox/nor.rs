//! NOR flash in memory: a write only clears bits, an erase sets all of a page; the power may go at any word.

use std::{cell::RefCell, rc::Rc};

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind, ReadNorFlash,
};

pub const PAGE_BYTES: usize = 1024;
const WORD_BYTES: usize = 4;

/// What outlives the device.
pub struct Cells {
    pub bytes: Vec<u8>,
    /// How often each page was erased.
    pub erased: Vec<u32>,
    /// The power goes after so many more words or erased pages.
    pub power: Option<usize>,
}

/// A device's flash.
#[derive(Clone)]
pub struct Nor(pub Rc<RefCell<Cells>>);

impl Nor {
    pub fn new(pages: usize) -> Nor {
        let bytes = vec![0xff; pages * PAGE_BYTES];
        Nor(Rc::new(RefCell::new(Cells { bytes, erased: vec![0; pages], power: None })))
    }
}

impl Cells {
    /// One word or page is written, if there is power for it.
    fn step(&mut self) -> Result<(), NorFlashErrorKind> {
        match &mut self.power {
            Some(0) => return Err(NorFlashErrorKind::Other),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }
}

impl ErrorType for Nor {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        let cells = self.0.borrow();
        let from = offset as usize;
        let stored = cells.bytes.get(from..from + bytes.len()).ok_or(NorFlashErrorKind::OutOfBounds)?;
        bytes.copy_from_slice(stored);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.borrow().bytes.len()
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = WORD_BYTES;
    const ERASE_SIZE: usize = PAGE_BYTES;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        let mut cells = self.0.borrow_mut();
        for page in from as usize / PAGE_BYTES..to as usize / PAGE_BYTES {
            cells.step()?;
            cells.erased[page] += 1;
            cells.bytes[page * PAGE_BYTES..][..PAGE_BYTES].fill(0xff);
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        let mut cells = self.0.borrow_mut();
        if !(offset as usize).is_multiple_of(WORD_BYTES) || !bytes.len().is_multiple_of(WORD_BYTES) {
            return Err(NorFlashErrorKind::NotAligned);
        }
        for (at, word) in bytes.chunks(WORD_BYTES).enumerate() {
            cells.step()?;
            let start = offset as usize + at * WORD_BYTES;
            for (cell, byte) in cells.bytes[start..].iter_mut().zip(word) {
                *cell &= byte;
            }
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for Nor {}
