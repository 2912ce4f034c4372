//! What each application does with the board: settings, clock, network, and the device's life.
//!
//! What depends on the flash's type belongs to [`Application`], so that it is compiled once, with the application.

use core::pin::pin;

use cortex_m::Peripherals;
use embassy_futures::select::{Either3, select3};
use embassy_net::{Config, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4};
use embassy_time::{Duration, Instant};
use embedded_storage_async::nor_flash::NorFlash;
use static_cell::{ConstStaticCell, StaticCell};
use zeugma_firmware::{
    batch::Format,
    board::{Board, Event},
    clock::{Clock, Moment},
    device::{self, Buffers, Device},
    outbox::{Outbox, Room},
    random::{Random, mixed},
    schedule::Pace,
    sensor::Sensor,
    settings::{self, Network, SLOTS, Settings},
};

use crate::{
    broker::{self, ToBroker},
    ethernet::Ethernet,
    host::{self, Arguments, FileFlash},
    say,
    sleep::{self, Apart},
    stack, time,
    time_server::keep_time,
    uart,
};

/// Readings in RAM: what four batches of a meter hold.
const RECORDS: usize = 28;
const BYTES: usize = 2560;

const PAGE_BYTES: usize = <FileFlash as NorFlash>::ERASE_SIZE;

/// Longest pause between two attempts to connect.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// One socket for the broker, one for the time.
const SOCKETS: usize = 2;

static CLOCK: SharedClock = SharedClock(Clock::new());

/// The clock that the time server sets and the sensor may set.
struct SharedClock(Clock);

// SAFETY: all tasks are of one thread on one core, and no interrupt looks at the clock.
unsafe impl Sync for SharedClock {}

/// How often a sensor is looked at, and the sensor, made for the settings.
pub struct Application<S> {
    /// What it is called in the log.
    pub name: &'static str,
    /// How often it is looked at.
    pub look_every: Duration,
    /// Makes it.
    pub sensor: fn(&Settings, &'static Clock) -> S,
}

impl<S: Sensor> Application<S> {
    /// Lives, until as many readings as the argument `readings` says are acknowledged.
    ///
    /// Arguments: `flash` (the file that is the flash), `readings`.
    pub fn live(&self) -> ! {
        stack::paint();
        let mut peripherals = Peripherals::take().expect("this is called once");
        time::start(&mut peripherals.SYST);
        uart::start();
        let arguments = Arguments::get();
        let Some(mut flash) = arguments.value("flash").and_then(FileFlash::open) else {
            say!("there is no flash: give flash=FILE");
            host::exit(2);
        };
        let settings = Self::settings(&mut flash);
        let outbox = Self::outbox(flash);
        if outbox.was_damaged() {
            say!("what the flash held was damaged: readings, numbers or counts are lost");
        }
        say!(
            "{} {}/{}, start {}, {} readings kept, {} dropped",
            self.name,
            settings.tenant,
            settings.device,
            outbox.boot(),
            outbox.len(),
            outbox.dropped()
        );
        // The emulator has no source of noise: names and starts make devices differ, nothing makes them secret.
        let seed = settings.tenant.bytes().chain(settings.device.bytes());
        let seed = seed.fold(u64::from(outbox.boot()), |seed, byte| mixed(seed ^ u64::from(byte)));
        let mut random = Random::seeded(seed);
        let (stack, runner) = network(&settings.network, &mut random);
        let life = device::Settings {
            tenant: &settings.tenant,
            device: &settings.device,
            login: settings.login.as_ref().map(|login| (login.user.as_str(), login.password.as_bytes())),
            format: Format::Avro,
            pace: Pace::Every(self.look_every),
            health_every: Duration::from_millis(settings.health_every_ms.into()),
            readings_max: arguments.value("readings").and_then(|count| count.parse().ok()),
            pause_max: PAUSE_MAX,
        };
        let way = broker::way(stack, settings, Random::seeded(random.bits()));
        let time_random = Random::seeded(random.bits());
        let sensor = (self.sensor)(settings, &CLOCK.0);
        let Ok(mut device) = Device::new(&life, sensor, outbox, random) else {
            say!("no device: {}", device::InvalidName);
            host::exit(4);
        };
        sleep::block_on(pin!(run(&mut device, way, settings, stack, runner, time_random)));
        let statics = static_bytes();
        say!(
            "done after {} ms: {statics} bytes of statics, {} of stack",
            Instant::now().as_millis(),
            stack::used_bytes()
        );
        host::exit(0)
    }

    /// The settings that hold.
    #[inline(never)]
    fn settings(flash: &mut FileFlash) -> &'static Settings {
        static SETTINGS: StaticCell<Settings> = StaticCell::new();
        let Ok(found) = sleep::block_on(pin!(settings::read(flash, PAGE_BYTES))) else {
            say!("the flash cannot be read");
            host::exit(3);
        };
        if let Some(why) = found.passed_over {
            say!("new settings are not used: {why}; the last good ones hold");
        }
        match found.settings {
            Ok(settings) if settings.key.is_some() == broker::HAS_TLS => SETTINGS.init(settings),
            // What was meant to be sealed is never sent openly.
            Ok(_) if broker::HAS_TLS => {
                say!("no settings: this program speaks TLS, they have no key; run `zeugma device provision`");
                host::exit(4)
            }
            Ok(_) => {
                say!("no settings: they have a key, this program no TLS; build it with the feature `tls`");
                host::exit(4)
            }
            Err(why) => {
                say!("no settings: {why}; run `zeugma device provision`");
                host::exit(4)
            }
        }
    }

    /// What waits on flash, behind the settings.
    #[inline(never)]
    fn outbox(flash: FileFlash) -> Outbox<'static, FileFlash, RECORDS, BYTES> {
        static ROOM: ConstStaticCell<Room<RECORDS, BYTES>> = ConstStaticCell::new(Room::new());
        let start = (SLOTS * PAGE_BYTES) as u32;
        sleep::block_on(pin!(Outbox::open(flash, start, ROOM.take()))).unwrap_or_else(|why| {
            say!("no outbox: {why}");
            host::exit(3)
        })
    }
}

/// The network of the Ethernet controller.
#[inline(never)]
fn network(
    network: &Network,
    random: &mut Random,
) -> (Stack<'static>, Runner<'static, &'static mut Ethernet>) {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    static ETHERNET: StaticCell<Ethernet> = StaticCell::new();
    // Locally administered, and another for each device.
    let [a, b, c, d, ..] = random.bits().to_le_bytes();
    let ethernet = ETHERNET.init_with(|| Ethernet::start([0x02, 0x5a, a, b, c, d]));
    let config = Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(network.address, network.prefix_len),
        gateway: Some(network.gateway),
        dns_servers: Default::default(),
    });
    embassy_net::new(ethernet, config, RESOURCES.init_with(StackResources::new), random.bits())
}

/// The device's life, beside it the network's and the clock's.
async fn run<S: Sensor>(
    device: &mut Device<'static, S, FileFlash, RECORDS, BYTES>,
    way: &mut ToBroker,
    settings: &'static Settings,
    stack: Stack<'static>,
    mut runner: Runner<'static, &'static mut Ethernet>,
    mut random: Random,
) {
    static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
    let mut board = Emulated { has_acknowledgement: false };
    let living = pin!(device.run(way, &mut board, core::future::pending(), BUFFERS.take()));
    let networking = pin!(runner.run());
    let keeping_time = pin!(async {
        match settings.time_server {
            Some(server) => keep_time(stack, server.into(), &CLOCK.0, &mut random).await,
            None => core::future::pending().await,
        }
    });
    match select3(Apart::new(0, living), Apart::new(1, networking), Apart::new(2, keeping_time)).await {
        Either3::First(()) | Either3::Third(()) => {}
        Either3::Second(never) => never,
    }
}

/// The board as the device sees it.
struct Emulated {
    /// Whether the first one came, which the log tells.
    has_acknowledgement: bool,
}

impl Board for Emulated {
    fn now(&self) -> Moment {
        let at = Instant::now();
        Moment { at, time_us: CLOCK.0.time_us(at), utc_offset_s: 0 }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Taken(_) => {}
            Event::Missing { reason, count } => say!("{count} not taken: {reason}"),
            Event::Dropped(count) => say!("{count} of the oldest dropped"),
            Event::FlashFailed => say!("the flash failed"),
            Event::Connected => say!("connected"),
            Event::Lost(why) => say!("lost: {why}"),
            Event::Acknowledged(_) => {
                if !core::mem::replace(&mut self.has_acknowledgement, true) {
                    say!("first acknowledgement after {} ms", Instant::now().as_millis());
                }
            }
            Event::Refused(count) => say!("{count} refused"),
        }
    }
}

/// Bytes of RAM that are taken before anything runs.
fn static_bytes() -> usize {
    unsafe extern "C" {
        static __sdata: u32;
        static __ebss: u32;
    }
    (&raw const __ebss as usize) - (&raw const __sdata as usize)
}

/// Calls that a panic tells, the innermost first.
const CALLS_TOLD: usize = 16;

/// Whatever panics, the log says who called whom, and the emulator ends.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    say!("panic; called from, for `addr2line -f -e IMAGE`:");
    for address in stack::calls().take(CALLS_TOLD) {
        say!("{address:#010x}");
    }
    host::exit(101)
}

/// A fault, such as a stack that is too small.
// SAFETY: nothing is used afterwards that the fault could have damaged, but for the UART.
#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    say!("hard fault at {:#010x}", frame.pc());
    host::exit(102)
}
