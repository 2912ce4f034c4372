//! A device on an emulated board: the real firmware in QEMU, with a flash that outlives it, a time server, and a
//! meter at its UART.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use chrono::Utc;
use crc::{CRC_16_ARC, Crc};
use tempfile::TempDir;

use crate::{peers, program};

/// What the emulated board takes this machine's loopback for.
const HOST: &str = "10.0.2.2";

/// A board that is switched off.
pub struct Board {
    application: &'static str,
    cover: Cover,
    folder: TempDir,
    sensor: SocketAddr,
}

/// How its program speaks to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// Over TCP.
    None,
    /// Under TLS 1.3 with a pre-shared key.
    Tls,
}

/// Where a device reports, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its tenant and its own id.
    pub id: (&'a str, &'a str),
    /// On this machine.
    pub broker: SocketAddr,
    /// The identity and the key in hexadecimal, for TLS.
    pub key: Option<(&'a str, &'a str)>,
    /// Between two reports.
    pub every: Duration,
}

/// A board that is switched on; switched off when dropped.
pub struct Running {
    emulator: Child,
    log: Arc<Mutex<String>>,
    listening: Option<JoinHandle<()>>,
}

impl Board {
    /// A board with `application` (the name of a program of `firmware/board`), whose UART hears what `feed` says.
    ///
    /// Its program speaks TLS if the place has a key.
    pub fn new(application: &'static str, place: Place<'_>, feed: fn(u64) -> Vec<u8>) -> Board {
        let cover = if place.key.is_some() { Cover::Tls } else { Cover::None };
        let folder = tempfile::tempdir().expect("a folder");
        let board = Board { application, cover, folder, sensor: serve(feed) };
        board.provision(place);
        board
    }

    /// The board's flash.
    pub fn flash(&self) -> PathBuf {
        self.folder.path().join("flash")
    }

    /// Gives it its settings, as an installer does.
    pub fn provision(&self, place: Place<'_>) {
        let Place { id: (tenant, device), broker, key, every } = place;
        let (settings, time) = (self.folder.path().join("settings.toml"), time_server());
        let key = key.map(|(identity, psk)| format!("psk_identity = '{identity}'\npsk = '{psk}'\n"));
        let text = format!(
            "tenant = '{tenant}'\ndevice = '{device}'\nbroker = '{HOST}:{}'\ntime_server = '{HOST}:{}'\n\
             address = '10.0.2.15/24'\ngateway = '{HOST}'\nreport_every = '{}ms'\nhealth_every = '1h'\n{}",
            broker.port(),
            time.port(),
            every.as_millis(),
            key.unwrap_or_default()
        );
        std::fs::write(&settings, text).expect("a file");
        let (flash, settings) = (self.flash().display().to_string(), settings.display().to_string());
        let output = program::run(&["device", "provision", "--flash", &flash, "--settings", &settings]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Switches it on; it ends by itself once `readings` were taken and acknowledged.
    pub fn start(&self, readings: u64) -> Running {
        let flash = self.flash();
        let mut emulator =
            Command::new(peers::program("qemu-system-arm", "apt-get install -y qemu-system-arm"))
                .args(["-M", "lm3s6965evb", "-display", "none", "-monitor", "none", "-serial", "stdio"])
                .arg("-serial")
                .arg(format!("tcp:{}", self.sensor))
                .args(["-nic", "user,model=stellaris", "-semihosting-config"])
                .arg(format!(
                    "enable=on,target=native,arg=board,arg=flash={},arg=readings={readings}",
                    flash.display()
                ))
                .arg("-kernel")
                .arg(image(self.application, self.cover))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("qemu-system-arm runs");
        let log = Arc::new(Mutex::new(String::new()));
        let (output, written) = (emulator.stdout.take().expect("piped"), log.clone());
        let listening = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut log = written.lock().expect("a log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Running { emulator, log, listening: Some(listening) }
    }
}

impl Running {
    /// What it said on its UART.
    pub fn log(&self) -> String {
        self.log.lock().expect("a log").clone()
    }

    /// Switches it off at once, as a power cut does.
    pub fn cut_power(mut self) {
        self.emulator.kill().expect("a running emulator");
        self.emulator.wait().expect("an ended emulator");
    }

    /// Waits for its end; the log is whole then.
    pub fn end(&mut self, at_most: Duration) -> ExitStatus {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.emulator.try_wait().expect("an emulator") {
                self.listening.take().map(JoinHandle::join);
                return status;
            }
            assert!(Instant::now() < deadline, "the board does not end: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// The program for the board, which `./test` builds beside ours.
pub fn image(application: &str, cover: Cover) -> PathBuf {
    let target = program::binary().parent().and_then(Path::parent).expect("a target folder").to_owned();
    let (folder, features) = match cover {
        Cover::None => ("board", ""),
        Cover::Tls => ("board-tls", "--features tls "),
    };
    let image = target.join(folder).join("thumbv7m-none-eabi/release").join(application);
    assert!(
        image.is_file(),
        "{} is missing: cd firmware/board && cargo build --release {features}--target-dir {} (or ./test, which does it)",
        image.display(),
        target.join(folder).display()
    );
    image
}

/// Bytes of flash that an image takes: what is loaded from its sections `.vector_table`, `.text`, `.rodata`, `.data`.
pub fn flash_bytes(image: &Path) -> u64 {
    let elf = std::fs::read(image).expect("an image");
    let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().expect("four bytes"));
    // ELF-32 header: e_phoff at 28, e_phentsize at 42, e_phnum at 44; program header: type, offset, vaddr, paddr, filesz.
    let (table, len) = (word(28) as usize, usize::from(u16::from_le_bytes([elf[42], elf[43]])));
    let count = usize::from(u16::from_le_bytes([elf[44], elf[45]]));
    let headers = (0..count).map(|at| table + at * len);
    headers.filter(|at| word(*at) == 1).map(|at| u64::from(word(at + 16))).sum()
}

/// Serves bytes to whoever connects: `feed` of 0, 1, 2 ..., ten times a second.
fn serve(feed: fn(u64) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut board in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut number = 0;
                while board.write_all(&feed(number)).is_ok() {
                    number += 1;
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    addr
}

/// A time server (RFC 5905, section 7.3) with this machine's time.
fn time_server() -> SocketAddr {
    /// From 1900 to 1970.
    const EPOCH_S: u64 = 2_208_988_800;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut asked = [0; 48];
        while let Ok((_, from)) = socket.recv_from(&mut asked) {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
            let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
            let stamp = ((now.as_secs() + EPOCH_S) << 32 | fraction).to_be_bytes();
            // Version 4, server, stratum 1, precision of 2^-20 s; reference, origin, receive and transmit time.
            let mut answer = [0; 48];
            answer[..4].copy_from_slice(&[0x24, 1, 0, 0xec]);
            answer[12..16].copy_from_slice(b"TEST");
            answer[16..24].copy_from_slice(&stamp);
            answer[24..32].copy_from_slice(&asked[40..48]);
            answer[32..40].copy_from_slice(&stamp);
            answer[40..48].copy_from_slice(&stamp);
            // Whoever asked may be gone.
            let _ = socket.send_to(&answer, from);
        }
    });
    addr
}

/// The `number`-th telegram of a three-phase meter (DSMR 5.0.2).
pub fn telegram(number: u64) -> Vec<u8> {
    let import_kwh = 1_000.0 + number as f64 / 1_000.0;
    let text = format!(
        "/ISK5\\2M550T-1012\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(261123120000W)\r\n1-0:1.8.1({import_kwh:010.3}*kWh)\r\n\
         1-0:1.8.2(000200.000*kWh)\r\n1-0:2.8.1(000001.000*kWh)\r\n1-0:2.8.2(000002.000*kWh)\r\n\
         1-0:1.7.0(00.500*kW)\r\n1-0:2.7.0(00.000*kW)\r\n1-0:32.7.0(230.1*V)\r\n1-0:52.7.0(231.1*V)\r\n\
         1-0:72.7.0(229.9*V)\r\n1-0:31.7.0(001*A)\r\n1-0:51.7.0(002*A)\r\n1-0:71.7.0(003*A)\r\n!"
    );
    let checksum = Crc::<u16>::new(&CRC_16_ARC).checksum(text.as_bytes());
    format!("{text}{checksum:04X}\r\n").into_bytes()
}

/// What a satellite receiver says now, of a vehicle that goes north from Lamia at 36 km/h.
pub fn position(number: u64) -> Vec<u8> {
    let (now, latitude_min) = (Utc::now(), 54.0 + number as f64 * 0.000_54);
    let sentence = |body: String| {
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}\r\n")
    };
    let (time, place) = (now.format("%H%M%S%.3f"), format!("38{latitude_min:09.6},N,02226.000000,E"));
    let quality = sentence(format!("GNGGA,{time},{place},1,09,0.9,52.0,M,34.0,M,,"));
    let fix = sentence(format!("GNRMC,{time},A,{place},19.4,0.0,{},,,A", now.format("%d%m%y")));
    (quality + &fix).into_bytes()
}

/// A magnetometer's sample, in the form that the emulated board hears: over a free bay.
pub fn field(number: u64) -> Vec<u8> {
    let noise = (number % 7) as i16;
    let axes = [2_100 + noise, -300 - noise, 4_100 + noise];
    [0xA5].into_iter().chain(axes.iter().flat_map(|axis| axis.to_le_bytes())).collect()
}
