//! An energy meter's device: telegrams of the meter's customer port come over UART 1.

#![no_std]
#![no_main]

use embassy_time::Duration;
use static_cell::ConstStaticCell;
use zeugma_board::{life, uart::Heard};
use zeugma_firmware::apps::{meter::Meter, telegram::Collector};

#[cortex_m_rt::entry]
fn main() -> ! {
    life::Application {
        name: "meter",
        look_every: Duration::from_millis(100),
        sensor: |settings, clock| {
            // A time server is right to the millisecond, a meter to the minute.
            let clock = settings.time_server.is_none().then_some(clock);
            static COLLECTOR: ConstStaticCell<Collector> = ConstStaticCell::new(Collector::new());
            Meter::new(Heard, COLLECTOR.take(), clock, Duration::from_millis(settings.report_every_ms.into()))
        },
    }
    .live()
}
