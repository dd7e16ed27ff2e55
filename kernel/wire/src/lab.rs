//! The messages of a run of the laboratory: each step that a role took, each hang, and the verdict.

mod detail;

pub use detail::{
    AtCounter, Awaited, EntryRead, ListNow, Party, Stay, WaitsFor, ZoneName, ZoneNow,
};

use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

tidemark_facts::named! {
    /// The hazards that the laboratory reaches, in the order of the matrix.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum Hazard {
        H1 = "H1", "spurious OOM: a stale start, or half a list, misses memory that is free",
        H2 = "H2", "livelock: an interrupt's reader waits for the writer that it interrupted",
        /// An NMI interrupts a writer that has interrupts off, too. Not in the specification: this
        /// project's own finding.
        H2Nmi = "H2-NMI", "the same by an NMI, which nothing keeps out",
        /// The counter and the serial port's lock.
        H3 = "H3", "ABBA: the reader holds the port, the writer prints",
        H5Begin = "H5-begin", "H3 by a print of the lock validator, told of the writer's begin",
        H5End = "H5-end", "H3 by a print of the lock validator, told of the writer's end",
        H7 = "H7",
            "torn entry: new zone, old index, and an unmovable request in Movable memory",
        H7Hot = "H7-hot", "the hot path remembers a torn entry, and serves requests by it",
        H8 = "H8", "endless retry from a stale start, with reclaim that makes progress",
        /// As H7, but the window is as long as direct reclaim.
        H10 = "H10", "a stale start, misplaced: an unmovable request in Movable memory",
    }
}

/// The verdict of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabVerdict {
    /// The protocol prevents the hazard.
    Holds,
    /// The protocol prevents it for requests that may reclaim, but not for others.
    HoldsDirectOnly,
    /// The hazard happened.
    Fails,
    /// The trace does not show reader and writer inside the hazard's window.
    NotReached,
}

/// A party of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Role {
    /// The allocation request under test.
    Reader,
    /// The party that rebuilds the zonelists.
    Writer,
    /// The party that keeps reclaim progressing.
    Feeder,
    /// The watchdog, on any CPU.
    Watchdog,
}

impl Role {
    /// Number of roles.
    pub const COUNT: usize = 4;

    /// Returns the role of this number; the watchdog for larger numbers.
    pub const fn of(number: u64) -> Self {
        match number {
            0 => Self::Reader,
            1 => Self::Writer,
            2 => Self::Feeder,
            _ => Self::Watchdog,
        }
    }

    /// Returns the name used in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Feeder => "feeder",
            Self::Watchdog => "watchdog",
        }
    }
}

/// The context in which a step was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum LabContext {
    /// A thread.
    Task,
    /// The handler of a hard interrupt.
    Interrupt,
    /// The handler of an NMI.
    Nmi,
}

impl LabContext {
    /// Returns the context of this number; an NMI's for larger numbers.
    pub const fn of(number: u64) -> Self {
        match number {
            0 => Self::Task,
            1 => Self::Interrupt,
            _ => Self::Nmi,
        }
    }
}

macro_rules! lab_points {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// A step of a scenario: a schedule point that a role reached, or something that the
        /// laboratory did there. `detail` has a meaning where the variant's documentation gives
        /// one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum LabPoint {
            $($(#[$doc])* $name,)+
        }

        impl LabPoint {
            /// Every point; the index is the point's number.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns the name used in records.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

lab_points! {
    /// Rebuild: the counter has just become odd, where the protocol has one. Detail: the counter.
    RebuildOdd,
    /// Rebuild: an entry's zone is stored, its index is not yet. Of several in a row, only the
    /// first is a step.
    RebuildEntry,
    /// Rebuild: the lists are written. Detail: the counter.
    RebuildEven,
    /// Rebuild: the new lists are published (`snapshot`).
    RebuildPublished,
    /// Rebuild: the writer begins to wait for the old lists' readers (`snapshot`).
    GraceWait,
    /// Rebuild: the writer is about to ask each CPU to acknowledge that it has left the old lists
    /// (`snapshot`).
    GraceBegin,
    /// Rebuild: the lock validator is told of the writer's begin.
    AnnotateBegin,
    /// Rebuild: the lock validator is told of the writer's end.
    AnnotateEnd,
    /// Slow path: the cookie was read. Detail here and at the next five points: [`AtCounter`].
    SlowBegin,
    /// Slow path: the preferred entry was chosen, and a walk begins.
    SlowWalk,
    /// Slow path: a walk found nothing.
    SlowWalked,
    /// Slow path: a round begins at `retry`.
    SlowRetry,
    /// Slow path: the check before OOM is next.
    SlowCheckOom,
    /// Slow path: the check at `nopage` is next.
    SlowCheckNopage,
    /// Walk: an entry's index was read, its zone not yet. Of several in a row, only the first is a
    /// step.
    WalkEntry,
    /// Hot path: it looks for the zone that serves requests of a class first. It has read an
    /// entry's index, its zone not yet.
    NoteEntry,
    /// Hot path: that zone is remembered. Detail: its number, as in [`ZoneName`].
    FirstNoted,
    /// Offline: the range is isolated and drained.
    OfflineIsolated,
    /// Offline: a scan of the range is done.
    OfflineScanned,
    /// Offline: the frames have left the zone, and the lists still name it.
    OfflineLeft,
    /// Offline: the range has left.
    OfflineDone,
    /// The host is asked to remove a DIMM: QMP `device_del`.
    AsksToPull,
    /// The host is asked to put a DIMM back: QMP `device_add`.
    AsksToPlug,
    /// The hot-plug thread, woken by the system control interrupt, finds that a DIMM is to leave.
    SlotLeaves,
    /// The hot-plug thread finds that a DIMM has arrived.
    SlotArrives,
    /// Online: the frames are counted but isolated, and the lists are about to be rebuilt.
    OnlineCounted,
    /// Online: the range is in use.
    OnlineDone,
    /// A role begins.
    Start,
    /// A role has done its part.
    End,
    /// A request is made. Detail: 0 GFP_KERNEL, 1 GFP_ATOMIC.
    Request,
    /// The request got a frame. Detail: its zone's kind.
    Got,
    /// The request failed. Detail: 1 if a fresh walk would have found memory.
    Failed,
    /// OOM is declared. Detail: 1 if a fresh walk would have found memory.
    OomDeclared,
    /// A reader finds the counter odd and waits. Detail: the counter.
    Spins,
    /// The watchdog has told the waiter to give up.
    GaveUp,
    /// A role is held here. Detail: [`Stay`], with the first of the points that it waits for.
    Held,
    /// A held role goes on. Detail: [`Stay`], with the point that was reached.
    Released,
    /// A role was held in vain: the deadline passed. Detail: [`Stay`].
    TimedOut,
    /// A self-IPI was sent. Detail: 1 if interrupts are on.
    IrqRaised,
    /// Interrupts are off, and the CPU's APIC has the self-IPI requested and not served.
    IrqPending,
    /// The interrupt's handler begins. Detail: 0 for the self-IPI's, 1 for COM1's.
    IrqTaken,
    /// The interrupt's handler ends.
    IrqOver,
    /// An NMI was sent. Detail: the CPU that it was sent to.
    NmiSent,
    /// The NMI's handler begins.
    NmiTaken,
    /// The NMI's handler ends.
    NmiOver,
    /// Memory of the zone that the stale start skips was freed. Detail: the number of frames.
    MemoryFreed,
    /// A print begins.
    Print,
    /// The records of a print were stored, to be written out later.
    PrintStored,
    /// A print wants the serial port's lock.
    PortWanted,
    /// The serial port's lock is held.
    PortLocked,
    /// The serial port's lock is about to be released.
    PortFreed,
    /// The feeder has put pages into the cache. Detail: their number.
    Fed,
    /// The watchdog found a CPU without ticks. Detail: the CPU.
    Hang,
    /// The stage opens; the steps that follow belong together. Detail: the number of the play, from
    /// 0.
    Act,
    /// Walk: an entry was read. Detail: [`EntryRead`]. Of several in a row, only the first is a
    /// step.
    EntryRead,
    /// The squeezed node's zonelist. Detail: [`ListNow`].
    ListNow,
    /// A zone of the squeezed node. Detail: [`ZoneNow`].
    ZoneNow,
    /// An edge of the wait-for graph of parties that will never go on. Detail: [`WaitsFor`].
    WaitsFor,
    /// The place where a CPU hung. Detail: the address of the instruction or call.
    HungAt,
    /// The request has begun so often that it counts as going round. Detail: the number of its
    /// beginnings.
    GoesRound,
    /// The request's frame is kept. Detail: the frame's number.
    Kept,
    /// The kernel refuses to let the DIMM go. Detail: the frame in the way.
    PullRefused,
    /// The DIMM has left.
    PullDone,
    /// The kept frame was freed. Detail: its number.
    GivenBack,
}

/// One step of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabStep {
    /// Place in the order of all steps, from 0.
    pub order: u32,
    /// Guest time since boot, in microseconds.
    pub at_us: u64,
    /// The CPU.
    pub cpu: u8,
    /// The context.
    pub context: LabContext,
    /// The role that took the step.
    pub role: Role,
    /// The point that it reached.
    pub point: LabPoint,
    /// The detail; see [`LabPoint`] for its meaning.
    pub detail: u64,
}

/// A text of at most `N` bytes. Longer texts are cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    used: u8,
}

impl<const N: usize> Text<N> {
    /// Returns an empty text.
    pub const fn new() -> Self {
        assert!(N <= u8::MAX as usize);
        Text {
            bytes: [0; N],
            used: 0,
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.used)]).unwrap_or("")
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    /// Appends the characters that have room. Only whole characters are appended.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let used = usize::from(self.used);
            let len = character.len_utf8();
            let Some(room) = self.bytes.get_mut(used..used + len) else {
                return Ok(());
            };
            character.encode_utf8(room);
            self.used += len as u8;
        }
        Ok(())
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const N: usize>;

        impl<const N: usize> de::Visitor<'_> for Visitor<N> {
            type Value = Text<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} bytes of text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<N>, E> {
                if text.len() > N {
                    return Err(E::invalid_length(text.len(), &self));
                }
                let mut value = Text::new();
                value.bytes[..text.len()].copy_from_slice(text.as_bytes());
                value.used = text.len() as u8;
                Ok(value)
            }
        }

        deserializer.deserialize_str(Visitor::<N>)
    }
}

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabResult {
    /// The hazard.
    pub hazard: Hazard,
    /// The verdict.
    pub verdict: LabVerdict,
    /// The course of the run, in words.
    pub how: Text<160>,
    /// Number of steps in the trace.
    pub steps: u32,
    /// Number of steps that the buffer had no room for.
    pub dropped: u32,
    /// Whether the oracle found the allocator consistent afterwards.
    pub sound: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, MAX_FRAME_BYTES, ToHost, encode};
    use core::fmt::Write;

    #[test]
    fn points_are_numbered_in_order() {
        for (number, point) in LabPoint::ALL.iter().enumerate() {
            assert_eq!(*point as usize, number);
        }
    }

    #[test]
    fn the_longest_result_fits_a_frame_and_comes_back() {
        let mut how = Text::new();
        for _ in 0..100 {
            how.write_str("ä1 ").unwrap();
        }
        assert_eq!(how.as_str().len(), 160);
        let sent = ToHost::LabResult(LabResult {
            hazard: Hazard::H8,
            verdict: LabVerdict::Fails,
            how,
            steps: u32::MAX,
            dropped: u32::MAX,
            sound: true,
        });
        let mut buffer = [0; MAX_FRAME_BYTES];
        let frame = encode(&sent, &mut buffer).unwrap();
        let mut decoder = Decoder::new();
        let mut got = None;
        for &byte in frame.iter() {
            got = got.or(decoder.push::<ToHost>(byte));
        }
        assert_eq!(got, Some(Ok(sent)));
    }
}
