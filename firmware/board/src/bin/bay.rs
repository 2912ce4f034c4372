//! A parking bay's device: samples of a magnetometer come over UART 1.

#![no_std]
#![no_main]

use embassy_time::Duration;
use zeugma_board::{life, magnetometer::HeardField, uart::Heard};
use zeugma_firmware::apps::bay::{Bay, Thresholds};

#[cortex_m_rt::entry]
fn main() -> ! {
    life::Application {
        name: "bay",
        look_every: Duration::from_millis(100),
        sensor: |settings, _clock| {
            let every = Duration::from_millis(settings.report_every_ms.into());
            Bay::new(HeardField::new(Heard), Thresholds::default(), every)
        },
    }
    .live()
}
