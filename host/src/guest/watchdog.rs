//! Tells a hung guest from a slow one.
//!
//! A guest sends a heartbeat every 100 ms of its own time. The longest delay so far shows how slow
//! guest and host are together, and the patience grows with it.

use std::time::{Duration, Instant};

use tidemark_wire::LabContext;

/// The interval at which the guest promises heartbeats.
const PERIOD: Duration = Duration::from_millis(100);
/// Patience with a guest whose heartbeats are punctual.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most by which slowness multiplies the patience.
const MAX_SLOWNESS: f64 = 12.0;
/// Patience before the first heartbeat, measured from the last sign of life.
const BOOT: Duration = Duration::from_secs(30);
/// Patience with a guest that sends heartbeats but no line and no request.
const IDLE: Duration = Duration::from_secs(120);

/// The reason why the guest counts as hung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hang {
    /// No heartbeat came at all.
    Boot { waited: Duration },
    /// The heartbeats stopped.
    Heartbeat { waited: Duration },
    /// One CPU takes no timer interrupts while others do.
    SilentCpu { cpu: u16, waited: Duration },
    /// The guest itself found a reader that waits for the rebuild that it has interrupted.
    StuckReader {
        cpu: u16,
        context: LabContext,
        rip: u64,
    },
    /// Heartbeats come, but nothing else happens.
    NoProgress { waited: Duration },
}

impl Hang {
    /// Returns for how long the sign of life has been missing.
    pub fn waited(&self) -> Duration {
        match self {
            Hang::Boot { waited }
            | Hang::Heartbeat { waited }
            | Hang::SilentCpu { waited, .. }
            | Hang::NoProgress { waited } => *waited,
            Hang::StuckReader { .. } => Duration::ZERO,
        }
    }

    /// Returns the CPU that is known to hang.
    pub fn cpu(&self) -> Option<u16> {
        match self {
            Hang::SilentCpu { cpu, .. } | Hang::StuckReader { cpu, .. } => Some(*cpu),
            _ => None,
        }
    }
}

impl std::fmt::Display for Hang {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hang::Boot { waited } => write!(
                f,
                "no sign of life for {:.0?} before the first heartbeat",
                waited
            ),
            Hang::Heartbeat { waited } => write!(f, "no heartbeat for {waited:.1?}"),
            Hang::SilentCpu { cpu, waited } => {
                write!(f, "cpu{cpu} took no timer interrupt for {waited:.1?}")
            }
            Hang::StuckReader { cpu, context, .. } => {
                let who = match context {
                    LabContext::Task => "a task",
                    LabContext::Interrupt => "an interrupt handler",
                    LabContext::Nmi => "an NMI handler",
                };
                write!(
                    f,
                    "{who} on cpu{cpu} waits for the rebuild that it has interrupted"
                )
            }
            Hang::NoProgress { waited } => {
                write!(f, "heartbeats, but nothing else for {waited:.0?}")
            }
        }
    }
}

/// A watchdog over one guest.
#[derive(Debug)]
pub struct Watchdog {
    started_or_spoke: Instant,
    last_progress: Instant,
    last_beat: Option<Instant>,
    longest_interval: Duration,
    silent: Option<(u16, Instant)>,
}

impl Watchdog {
    /// Returns a watchdog over a guest that starts now.
    pub fn new(now: Instant) -> Self {
        Watchdog {
            started_or_spoke: now,
            last_progress: now,
            last_beat: None,
            longest_interval: PERIOD,
            silent: None,
        }
    }

    /// Notes a heartbeat, which may name a CPU that does not tick.
    pub fn heartbeat(&mut self, now: Instant, silent_cpu: Option<u16>) {
        if let Some(last) = self.last_beat {
            self.longest_interval = self.longest_interval.max(now - last);
        }
        self.last_beat = Some(now);
        self.silent = match (silent_cpu, self.silent) {
            (Some(cpu), Some((same, since))) if cpu == same => Some((cpu, since)),
            (Some(cpu), _) => Some((cpu, now)),
            (None, _) => None,
        };
    }

    /// Notes that the guest printed a line or asked for something.
    pub fn progress(&mut self, now: Instant) {
        self.started_or_spoke = now;
        self.last_progress = now;
    }

    /// Returns how long heartbeats may be missing, given how late they have been.
    pub fn patience(&self) -> Duration {
        let slowness = self.longest_interval.as_secs_f64() / PERIOD.as_secs_f64();
        PATIENCE.mul_f64(slowness.clamp(1.0, MAX_SLOWNESS))
    }

    /// Returns why the guest counts as hung by now; nothing if it does not.
    pub fn check(&self, now: Instant) -> Option<Hang> {
        let Some(last) = self.last_beat else {
            let waited = now - self.started_or_spoke;
            return (waited > BOOT).then_some(Hang::Boot { waited });
        };
        let waited = now - last;
        if waited > self.patience() {
            return Some(Hang::Heartbeat { waited });
        }
        if let Some((cpu, since)) = self.silent
            && now - since > self.patience()
        {
            let waited = now - since;
            return Some(Hang::SilentCpu { cpu, waited });
        }
        let waited = now - self.last_progress;
        let idle = IDLE.max(self.patience());
        (waited > idle).then_some(Hang::NoProgress { waited })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(dog: &mut Watchdog, mut now: Instant, interval_ms: u64, count: u32) -> Instant {
        for _ in 0..count {
            now += Duration::from_millis(interval_ms);
            dog.heartbeat(now, None);
        }
        now
    }

    #[test]
    fn a_punctual_guest_that_falls_silent_hangs_after_five_seconds() {
        let start = Instant::now();
        let mut dog = Watchdog::new(start);
        let now = beats(&mut dog, start, 100, 20);
        assert_eq!(dog.check(now + Duration::from_secs(4)), None);
        assert!(matches!(
            dog.check(now + Duration::from_secs(6)),
            Some(Hang::Heartbeat { .. })
        ));
    }

    #[test]
    fn a_slow_guest_gets_more_time() {
        let start = Instant::now();
        let mut dog = Watchdog::new(start);
        let now = beats(&mut dog, start, 400, 20);
        assert_eq!(dog.check(now + Duration::from_secs(19)), None);
        assert!(dog.check(now + Duration::from_secs(21)).is_some());
    }

    #[test]
    fn patience_has_an_end() {
        let start = Instant::now();
        let mut dog = Watchdog::new(start);
        beats(&mut dog, start, 100_000, 2);
        assert_eq!(dog.patience(), Duration::from_secs(60));
    }

    #[test]
    fn a_cpu_must_stay_silent_to_count_as_hung() {
        let start = Instant::now();
        let mut dog = Watchdog::new(start);
        let mut now = start;
        for beat in 0..100 {
            now += Duration::from_millis(100);
            dog.progress(now);
            // The CPU ticks again now and then, so it was not scheduled rather than hung.
            dog.heartbeat(now, (beat % 40 != 0).then_some(3));
            assert_eq!(dog.check(now), None);
        }
        for _ in 0..60 {
            now += Duration::from_millis(100);
            dog.heartbeat(now, Some(3));
        }
        assert_eq!(dog.check(now).and_then(|hang| hang.cpu()), Some(3));
    }

    #[test]
    fn a_line_before_the_first_heartbeat_is_a_sign_of_life() {
        let start = Instant::now();
        let mut dog = Watchdog::new(start);
        dog.progress(start + Duration::from_secs(25));
        assert_eq!(dog.check(start + Duration::from_secs(50)), None);
        assert!(matches!(
            dog.check(start + Duration::from_secs(56)),
            Some(Hang::Boot { .. })
        ));
    }

    #[test]
    fn heartbeats_alone_are_no_progress() {
        let start = Instant::now();
        let mut dog = Watchdog::new(start);
        let now = beats(&mut dog, start, 100, 1300);
        assert!(matches!(dog.check(now), Some(Hang::NoProgress { .. })));
    }
}
