//! What stands in for hardware that the emulator lacks, by semihosting (ARM, "Semihosting for AArch32 and AArch64"):
//! arguments, a flash whose cells are a file of the host, and the end of the program.

use cortex_m_semihosting::{
    nr::{CLOSE, FLEN, GET_CMDLINE, OPEN, READ, SEEK, WRITE, open::RW_BINARY},
    syscall, syscall1,
};
use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind, ReadNorFlash,
};

/// SYS_EXIT_EXTENDED: ends the emulator with a status.
const EXIT_EXTENDED: usize = 0x20;
/// ADP_Stopped_ApplicationExit.
const APPLICATION_EXIT: usize = 0x20026;

/// Longest command line.
const ARGUMENTS_BYTES_MAX: usize = 256;

/// Asks the host for something; the numbers of `arguments` are what the operation wants.
fn ask<const N: usize>(operation: usize, arguments: [usize; N]) -> usize {
    // SAFETY: callers are in this file; each gives the operation the block that the specification says, whose
    // pointers are to places that live until it returns, and lengths of those.
    unsafe { syscall(operation, &arguments) }
}

/// Ends the program with a status: 0 is well.
pub fn exit(status: u8) -> ! {
    ask(EXIT_EXTENDED, [APPLICATION_EXIT, status.into()]);
    loop {
        cortex_m::asm::wfi();
    }
}

/// The command line: words of the form `name=value`.
pub struct Arguments {
    bytes: [u8; ARGUMENTS_BYTES_MAX],
    len: usize,
}

impl Arguments {
    /// Asks the host.
    pub fn get() -> Arguments {
        let mut bytes = [0; ARGUMENTS_BYTES_MAX];
        let mut block = [bytes.as_mut_ptr() as usize, bytes.len()];
        // SAFETY: the block says where the text may go and how long it may be; the host writes its length there.
        let status = unsafe { syscall1(GET_CMDLINE, block.as_mut_ptr() as usize) };
        let len = if status == 0 { block[1].min(bytes.len()) } else { 0 };
        Arguments { bytes, len }
    }

    /// The value of `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        let text = core::str::from_utf8(&self.bytes[..self.len]).ok()?;
        text.trim_end_matches('\0')
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Flash in a file of the host; its length is the flash's size.
///
/// What is written is in the host's memory when a write returns, so it outlives the emulator, not the host.
pub struct FileFlash {
    handle: usize,
    capacity: usize,
}

impl FileFlash {
    /// The file at `path`, which has to be there.
    pub fn open(path: &str) -> Option<FileFlash> {
        let mut name = [0; ARGUMENTS_BYTES_MAX];
        name.get_mut(..path.len())?.copy_from_slice(path.as_bytes());
        *name.get_mut(path.len())? = 0;
        let handle = ask(OPEN, [name.as_ptr() as usize, RW_BINARY, path.len()]);
        let capacity = if handle == usize::MAX { usize::MAX } else { ask(FLEN, [handle]) };
        (capacity != usize::MAX).then_some(FileFlash { handle, capacity })
    }

    /// Goes to `offset`, if `len` bytes are there.
    fn seek(&mut self, offset: u32, len: usize) -> Result<(), NorFlashErrorKind> {
        if (offset as usize).checked_add(len).is_none_or(|end| end > self.capacity) {
            return Err(NorFlashErrorKind::OutOfBounds);
        }
        done(ask(SEEK, [self.handle, offset as usize]))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        done(ask(WRITE, [self.handle, bytes.as_ptr() as usize, bytes.len()]))
    }

    fn get(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        self.seek(offset, bytes.len())?;
        done(ask(READ, [self.handle, bytes.as_mut_ptr() as usize, bytes.len()]))
    }
}

impl Drop for FileFlash {
    fn drop(&mut self) {
        ask(CLOSE, [self.handle]);
    }
}

/// The host answers 0 where it did all.
fn done(status: usize) -> Result<(), NorFlashErrorKind> {
    if status == 0 { Ok(()) } else { Err(NorFlashErrorKind::Other) }
}

impl ErrorType for FileFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for FileFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        self.get(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

impl NorFlash for FileFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        const BLANK: [u8; 256] = [0xff; 256];
        self.seek(from, (to - from) as usize)?;
        for _ in 0..(to - from) as usize / BLANK.len() {
            self.put(&BLANK)?;
        }
        Ok(())
    }

    /// As in flash, bits are only cleared.
    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        let mut cells = [0; 64];
        for (at, part) in bytes.chunks(cells.len()).enumerate() {
            let (place, cells) = (offset + (at * 64) as u32, &mut cells[..part.len()]);
            self.get(place, cells)?;
            cells.iter_mut().zip(part).for_each(|(cell, byte)| *cell &= byte);
            self.seek(place, cells.len())?;
            self.put(cells)?;
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for FileFlash {}
