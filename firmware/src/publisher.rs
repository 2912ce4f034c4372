//! MQTT 5 at QoS 1: batches of readings go out, a few at a time, and leave the outbox when accepted.
//!
//! In come waiting readings, out go publishes; the promise is that a reading leaves only on an accepted
//! PUBACK. The outbox, not the MQTT session, remembers what is not delivered: the session may be lost.

use embassy_time::{Duration, Instant};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use minimq::{Io, Op};

use crate::{
    backoff::Backoff,
    batch::Format,
    link::{Fate, Link, Parcel, Sent, WINDOW},
    outbox::Outbox,
    random::Random,
    ring::Ticket,
    schedule::Channel,
};

/// Dialling, CONNECT and CONNACK together may take this long.
pub const OPEN_MAX: Duration = Duration::from_secs(10);

/// A publish may take this long to be written; the broker has stopped reading if it takes longer.
pub const WRITE_MAX: Duration = Duration::from_secs(10);

/// A broker that answers pings and leaves a publish unanswered for so long is left.
pub const ACK_MAX: Duration = Duration::from_secs(60);

/// What came of the publishes that were under way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) acknowledged: usize,
    pub(crate) refused: usize,
}

/// One publish under way.
#[derive(Clone, Copy)]
struct Flight {
    channel: Channel,
    op: Op,
    since: Instant,
}

/// Which batches are under way, and which channel has to pause.
pub(crate) struct Publisher {
    window: [Option<Flight>; WINDOW],
    refusals: [Backoff; 2],
    parked: [Option<Instant>; 2],
    count_max: usize,
}

impl Publisher {
    pub(crate) fn new(pause_max: Duration) -> Publisher {
        Publisher {
            window: [None; WINDOW],
            refusals: [(); 2].map(|()| Backoff::new(pause_max)),
            parked: [None; 2],
            count_max: usize::MAX,
        }
    }

    /// Begins a connection: what was learnt of the broker's limits may no longer hold.
    ///
    /// A publish that is repeated in a resumed session has all its time again.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.count_max = usize::MAX;
        self.window.iter_mut().flatten().for_each(|flight| flight.since = now);
    }

    /// Forgets what is under way: its session is gone.
    pub(crate) fn forget(&mut self) {
        self.window = [None; WINDOW];
    }

    /// Makes the next batch ready in `link`, if the window is open and a channel that may speak has one.
    pub(crate) fn pack<I, F: MultiwriteNorFlash, const R: usize, const B: usize>(
        &self,
        outbox: &mut Outbox<'_, F, R, B>,
        format: Format,
        now: Instant,
        link: &mut Link<'_, '_, I>,
    ) -> Option<Parcel> {
        let ticket = self.window.iter().position(Option::is_none)? as Ticket;
        let mut channels = Channel::ALL.into_iter().filter(|channel| self.may_speak(*channel, now));
        channels.find_map(|channel| link.pack(outbox, format, (channel, ticket, self.count_max)))
    }

    /// Notes what came of publishing `parcel`; answers how many readings were refused.
    pub(crate) fn sent<F: MultiwriteNorFlash, const R: usize, const B: usize>(
        &mut self,
        parcel: &Parcel,
        sent: &Sent,
        outbox: &mut Outbox<'_, F, R, B>,
        now: Instant,
        random: &mut Random,
    ) -> usize {
        if let Sent::Accepted(op) = sent {
            self.window[usize::from(parcel.ticket)] =
                Some(Flight { channel: parcel.channel, op: *op, since: now });
            return 0;
        }
        outbox.release(parcel.ticket);
        match sent {
            Sent::TooLarge if parcel.count > 1 => {
                self.count_max = parcel.count / 2;
                0
            }
            Sent::TooLarge => {
                self.park(parcel.channel, now, random);
                1
            }
            _ => 0,
        }
    }

    /// Takes every publish that is no longer under way out of the window.
    ///
    /// minimq counts a refused publish as complete. So when `refused`, every publish that completed since
    /// the last call is sent again: a repeat is recognised by its reader, a lost reading by nobody.
    pub(crate) async fn settle<I: Io, F: MultiwriteNorFlash, const R: usize, const B: usize>(
        &mut self,
        link: &Link<'_, '_, I>,
        refused: bool,
        outbox: &mut Outbox<'_, F, R, B>,
        now: Instant,
        random: &mut Random,
    ) -> Settled {
        let mut settled = Settled::default();
        for ticket in 0..WINDOW {
            let Some(Flight { channel, op, .. }) = self.window[ticket] else { continue };
            let fate = link.fate(&op);
            if matches!(fate, Fate::UnderWay) {
                continue;
            }
            self.window[ticket] = None;
            if matches!(fate, Fate::Forgotten) {
                outbox.release(ticket as Ticket);
            } else if refused {
                settled.refused += outbox.release(ticket as Ticket);
                self.park(channel, now, random);
            } else {
                settled.acknowledged += outbox.delivered(ticket as Ticket).await;
                self.refusals[channel as usize].succeeded();
            }
        }
        settled
    }

    /// When the oldest publish under way has waited too long.
    pub(crate) fn ack_deadline(&self) -> Option<Instant> {
        self.window.iter().flatten().map(|flight| flight.since + ACK_MAX).min()
    }

    /// When the first pause that is still on at `now` ends.
    pub(crate) fn pause_end(&self, now: Instant) -> Option<Instant> {
        self.parked.iter().flatten().filter(|end| **end > now).min().copied()
    }

    /// After a refusal a channel pauses, and then tries one publish alone until one is accepted.
    fn may_speak(&self, channel: Channel, now: Instant) -> bool {
        let is_under_way = || self.window.iter().flatten().any(|flight| flight.channel == channel);
        self.parked[channel as usize].is_none_or(|end| end <= now)
            && !(self.refusals[channel as usize].is_failing() && is_under_way())
    }

    fn park(&mut self, channel: Channel, now: Instant, random: &mut Random) {
        let pause = self.refusals[channel as usize].after_failure(random);
        self.parked[channel as usize] = Some(now + pause);
    }
}
