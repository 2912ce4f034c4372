//! A device's flash in a file: an image to be programmed, or the cells of an emulated board.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

/// Pages as flash chips have them.
const PAGE_BYTES: usize = 4096;

/// The flash.
pub struct FlashFile {
    file: File,
    bytes: usize,
}

/// The file did not do as it was told.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Failed(#[from] io::Error);

impl NorFlashError for Failed {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl FlashFile {
    /// Opens the file; where there is none, it is an erased flash of `kib` KiB.
    ///
    /// # Errors
    /// Those of the file.
    pub fn open(path: &Path, kib: u32) -> io::Result<FlashFile> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if bytes == 0 {
            bytes = kib as usize * 1024;
            file.write_all(&vec![0xff; bytes])?;
        }
        Ok(FlashFile { file, bytes })
    }
}

impl ErrorType for FlashFile {
    type Error = Failed;
}

impl ReadNorFlash for FlashFile {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Failed> {
        self.file.seek(SeekFrom::Start(offset.into()))?;
        Ok(self.file.read_exact(bytes)?)
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl NorFlash for FlashFile {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE_BYTES;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Failed> {
        self.file.seek(SeekFrom::Start(from.into()))?;
        Ok(self.file.write_all(&vec![0xff; (to - from) as usize])?)
    }

    /// What is written here was erased before, so cells need not be read.
    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Failed> {
        self.file.seek(SeekFrom::Start(offset.into()))?;
        self.file.write_all(bytes)?;
        Ok(self.file.sync_all()?)
    }
}
