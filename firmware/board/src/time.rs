//! Time in microseconds since power-on. SysTick counts without ever being set anew; timer 0 is the alarm.

use core::cell::Cell;

use cortex_m::peripheral::{SCB, SYST, syst::SystClkSource};
use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;

use crate::{
    interrupts::Interrupt,
    registers::{system, timer},
    sleep,
};

/// The crystal's 400 MHz over 8.
const CLOCK_MHZ: u64 = 50;

/// Ticks between two turns of SysTick, which has 24 bits: 335 ms.
const TURN_TICKS: u64 = 1 << 24;

/// Longest alarm: 2^32 ticks are 85 s.
const ALARM_TICKS_MAX: u64 = u32::MAX as u64;

struct Clock {
    /// Whole turns of SysTick, in ticks.
    turned: Mutex<Cell<u64>>,
    /// What was told last: time never goes back.
    told: Mutex<Cell<u64>>,
    alarm_us: Mutex<Cell<u64>>,
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock {
    turned: Mutex::new(Cell::new(0)),
    told: Mutex::new(Cell::new(0)),
    alarm_us: Mutex::new(Cell::new(u64::MAX)),
});

/// Starts the clock. To be called once, before anything asks for the time.
pub fn start(syst: &mut SYST) {
    // SYSDIV is 3, so the clock is 200 / (3 + 1) MHz; USESYSDIV is on. The emulator counts by this.
    const SYSDIV: u32 = 0x0F << 23;
    let rcc = system::RCC.read();
    system::RCC.write((rcc & !SYSDIV) | (3 << 23) | (1 << 22));
    system::RCGC1.set(1 << 16);
    timer::CONFIG.write(0);
    timer::MODE_A.write(1);
    timer::INTERRUPT_MASK.write(1);
    Interrupt::Timer0A.enable();
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload((TURN_TICKS - 1) as u32);
    syst.clear_current();
    syst.enable_interrupt();
    syst.enable_counter();
    // It shows 0 until it has loaded.
    while SYST::get_current() == 0 {}
}

impl Clock {
    fn ticks(&self, cs: CriticalSection<'_>) -> u64 {
        let left = SYST::get_current();
        // A turn that is over and not yet counted; then the count has to be read again.
        let turn_over = SCB::is_pendst_pending();
        let (left, more) = if turn_over { (SYST::get_current(), TURN_TICKS) } else { (left, 0) };
        let ticks = self.turned.borrow(cs).get() + more + (TURN_TICKS - 1 - u64::from(left));
        let told = self.told.borrow(cs);
        told.set(told.get().max(ticks));
        told.get()
    }

    /// Has timer 0 interrupt at the alarm, or as late as it can.
    fn set_timer(&self, cs: CriticalSection<'_>) {
        let alarm_us = self.alarm_us.borrow(cs).get();
        let wait_ticks = alarm_us.saturating_mul(CLOCK_MHZ).saturating_sub(self.ticks(cs));
        timer::CONTROL.write(0);
        timer::LOAD_A.write(wait_ticks.clamp(1, ALARM_TICKS_MAX) as u32);
        timer::CONTROL.write(1);
    }
}

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.ticks(cs) / CLOCK_MHZ)
    }

    /// There is one alarm, the earliest: it wakes all tasks, and each sets its next one itself.
    fn schedule_wake(&self, at: u64, _waker: &core::task::Waker) {
        critical_section::with(|cs| {
            let alarm_us = self.alarm_us.borrow(cs);
            if at < alarm_us.get() {
                alarm_us.set(at);
                self.set_timer(cs);
            }
        });
    }
}

#[cortex_m_rt::exception]
fn SysTick() {
    critical_section::with(|cs| {
        let turned = CLOCK.turned.borrow(cs);
        turned.set(turned.get() + TURN_TICKS);
    });
}

// SAFETY: the name is that of the vector table's entry, and nobody else gives it.
#[unsafe(export_name = "TIMER0A")]
extern "C" fn alarm() {
    timer::INTERRUPT_CLEAR.write(1);
    critical_section::with(|cs| {
        let alarm_us = CLOCK.alarm_us.borrow(cs);
        if alarm_us.get().saturating_mul(CLOCK_MHZ) <= CLOCK.ticks(cs) {
            alarm_us.set(u64::MAX);
            sleep::wake_all();
        } else if alarm_us.get() < u64::MAX {
            CLOCK.set_timer(cs);
        }
    });
}
