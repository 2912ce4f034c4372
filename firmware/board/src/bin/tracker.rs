//! A vehicle's device: sentences of a satellite receiver come over UART 1.

#![no_std]
#![no_main]

use embassy_time::Duration;
use zeugma_board::{life, uart::Heard};
use zeugma_firmware::apps::tracker::{Rules, Tracker};

#[cortex_m_rt::entry]
fn main() -> ! {
    life::Application {
        name: "tracker",
        look_every: Duration::from_millis(100),
        sensor: |settings, clock| {
            let rules = Rules::town(Duration::from_millis(settings.report_every_ms.into()));
            // The emulated board has no wire to an ignition.
            Tracker::new(Heard, || None, clock, rules, 0.0)
        },
    }
    .live()
}
