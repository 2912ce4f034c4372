//! What an installer tells a device, in flash: two slots of one page each, so that there is always a good one.
//!
//! ```text
//!   slot   "ZGM1" | serial 4 | length 4 | CRC-32 4 | settings, as postcard writes them
//! ```
//! Numbers are little-endian. Of two good slots the one with the higher serial holds; the next settings go into
//! the other. The checksum (CRC-32 as in Ethernet) is over serial, length and settings.

use core::net::{Ipv4Addr, SocketAddrV4};

use crc::{CRC_32_ISO_HDLC, Crc};
use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash};
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};
use zeugma_schemas::{id::is_id, limits::ID_LEN_MAX};

use crate::record::take;

const MAGIC: [u8; 4] = *b"ZGM1";
const HEAD_BYTES: usize = 16;

/// Longest settings: five texts of 64 bytes, a key, some addresses and numbers.
const BODY_BYTES_MAX: usize = 420;
const SLOT_BYTES_MAX: usize = HEAD_BYTES + BODY_BYTES_MAX;

const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Longest user name, password and identity.
pub const SECRET_LEN_MAX: usize = 64;

/// Shortest key: as strong as the cipher, which takes 128 bits.
pub const KEY_BYTES_MIN: usize = 16;
/// Longest key.
pub const KEY_BYTES_MAX: usize = 32;

/// What a device has to know of its place in the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whose device it is.
    pub tenant: String<ID_LEN_MAX>,
    /// Its id within the tenant.
    pub device: String<ID_LEN_MAX>,
    /// The broker.
    pub broker: SocketAddrV4,
    /// What the device says who it is, if the broker wants to know.
    pub login: Option<Login>,
    /// What it shares with the broker, for TLS.
    pub key: Option<Key>,
    /// An SNTP server; a meter or a satellite receiver can tell the time too.
    pub time_server: Option<SocketAddrV4>,
    /// The device's own address, its network's prefix length and the gateway.
    pub network: Network,
    /// How often it reports, where nothing happens, in milliseconds.
    pub report_every_ms: u32,
    /// How often it reports on itself, in milliseconds.
    pub health_every_ms: u32,
}

/// User name and password of MQTT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// User name.
    pub user: String<SECRET_LEN_MAX>,
    /// Password.
    pub password: String<SECRET_LEN_MAX>,
}

/// A pre-shared key of TLS (RFC 8446, section 2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Under which name the broker knows it.
    pub identity: String<SECRET_LEN_MAX>,
    /// The key.
    pub secret: Vec<u8, KEY_BYTES_MAX>,
}

/// The device's place in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its own address.
    pub address: Ipv4Addr,
    /// How many bits of it are the network's.
    pub prefix_len: u8,
    /// Who leads to other networks.
    pub gateway: Ipv4Addr,
}

/// Why settings cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Never written, or not ours.
    #[error("there are no settings")]
    None,
    /// The checksum is another, as when the power went while they were written.
    #[error("the settings are damaged")]
    Damaged,
    /// Tenant or device cannot stand in a topic.
    #[error("tenant and device are named by 1 to 64 of a-z A-Z 0-9 . _ -")]
    Name,
    /// More reports than a device can take.
    #[error("reports are at least 100 ms apart")]
    Interval,
    /// TLS cannot be had by this key.
    #[error("a key has a name and 16 to 32 bytes")]
    Key,
    /// No network is so large or so small.
    #[error("the prefix of a network has 1 to 30 bits")]
    Prefix,
}

impl Settings {
    /// Whether a device can live by them.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        match () {
            () if !is_id(&self.tenant) || !is_id(&self.device) => Err(Invalid::Name),
            () if self.report_every_ms < 100 || self.health_every_ms < 100 => Err(Invalid::Interval),
            () if self.key.as_ref().is_some_and(|key| !key.is_good()) => Err(Invalid::Key),
            () if !(1..=30).contains(&self.network.prefix_len) => Err(Invalid::Prefix),
            () => Ok(()),
        }
    }
}

impl Key {
    fn is_good(&self) -> bool {
        !self.identity.is_empty() && self.secret.len() >= KEY_BYTES_MIN
    }
}

/// What the two slots hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The settings that hold, or why there are none.
    pub settings: Result<Settings, Invalid>,
    /// Newer settings that were written and cannot be used, so that older ones hold.
    pub passed_over: Option<Invalid>,
    /// Where the next ones go, and under which serial.
    next: (usize, u32),
}

/// Pages that the slots take, at the beginning of the flash.
pub const SLOTS: usize = 2;

/// Reads both slots.
///
/// # Errors
/// Those of the flash.
pub async fn read<F: ReadNorFlash>(flash: &mut F, page_bytes: usize) -> Result<Found, F::Error> {
    let mut slots = [const { (0, Err(Invalid::None)) }; SLOTS];
    for (at, slot) in slots.iter_mut().enumerate() {
        let mut bytes = [0; SLOT_BYTES_MAX];
        flash.read((at * page_bytes) as u32, &mut bytes).await?;
        *slot = decode(&bytes);
    }
    let [first, second] = slots;
    let serial = first.0.max(second.0) + 1;
    // Of two that are equally old none was written, and either may be first.
    let ((_, newest), (_, oldest), newer, older) =
        if second.0 > first.0 { (second, first, 1, 0) } else { (first, second, 0, 1) };
    Ok(match (newest, oldest) {
        (Ok(settings), other) => {
            let passed_over = other.err().filter(|why| *why == Invalid::Damaged);
            Found { settings: Ok(settings), passed_over, next: (older, serial) }
        }
        (Err(why), Ok(settings)) => {
            let passed_over = Some(why).filter(|why| *why != Invalid::None);
            Found { settings: Ok(settings), passed_over, next: (newer, serial) }
        }
        (Err(why), Err(other)) => {
            let why = if why == Invalid::None { other } else { why };
            Found { settings: Err(why), passed_over: None, next: (newer, serial) }
        }
    })
}

/// Writes settings into the slot that does not hold.
///
/// # Errors
/// Those of the flash.
pub async fn write<F: NorFlash>(flash: &mut F, settings: &Settings) -> Result<(), F::Error> {
    let Found { next: (slot, serial), .. } = read(flash, F::ERASE_SIZE).await?;
    let mut bytes = [0xff; SLOT_BYTES_MAX];
    let len = encode(settings, serial, &mut bytes).next_multiple_of(F::WRITE_SIZE);
    let start = (slot * F::ERASE_SIZE) as u32;
    flash.erase(start, start + F::ERASE_SIZE as u32).await?;
    flash.write(start, &bytes[..len]).await
}

fn checksum(serial: u32, body: &[u8]) -> u32 {
    let mut digest = CHECKSUM.digest();
    digest.update(&serial.to_le_bytes());
    digest.update(&(body.len() as u32).to_le_bytes());
    digest.update(body);
    digest.finalize()
}

fn encode(settings: &Settings, serial: u32, slot: &mut [u8; SLOT_BYTES_MAX]) -> usize {
    let (head, body) = slot.split_at_mut(HEAD_BYTES);
    let body = postcard::to_slice(settings, body).expect("the longest settings fit");
    let numbers = [serial, body.len() as u32, checksum(serial, body)];
    head[..4].copy_from_slice(&MAGIC);
    for (place, number) in head[4..].chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    HEAD_BYTES + body.len()
}

/// The serial, 0 where it cannot be told, and the settings.
fn decode(mut bytes: &[u8]) -> (u32, Result<Settings, Invalid>) {
    let rest = &mut bytes;
    let head = (take::<4>(rest), take(rest), take(rest), take(rest));
    let (Some(MAGIC), Some(serial), Some(len), Some(sum)) = head else {
        let is_blank = rest.iter().all(|byte| *byte == 0xff);
        return (0, Err(if is_blank { Invalid::None } else { Invalid::Damaged }));
    };
    let (serial, len) = (u32::from_le_bytes(serial), u32::from_le_bytes(len) as usize);
    let Some(body) = rest.get(..len).filter(|body| checksum(serial, body) == u32::from_le_bytes(sum)) else {
        return (0, Err(Invalid::Damaged));
    };
    let settings = postcard::from_bytes::<Settings>(body).map_err(|_| Invalid::Damaged);
    (serial, settings.and_then(|settings| settings.check().map(|()| settings)))
}
