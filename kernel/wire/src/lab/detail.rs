//! The contents of a [`LabStep`](super::LabStep)'s `detail`, where it is more than one number.

use super::{LabContext, LabPoint, Role};

/// The counter at a point of the slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtCounter {
    /// The value of the rebuild counter.
    pub counter: u32,
    /// Whether a walk that began now would find memory above MIN for the request under test.
    pub serves: bool,
}

impl AtCounter {
    /// Packs the value into a detail.
    pub const fn pack(self) -> u64 {
        self.counter as u64 | (self.serves as u64) << 32
    }

    /// Unpacks the value from a detail.
    pub const fn unpack(detail: u64) -> Self {
        Self {
            counter: detail as u32,
            serves: detail >> 32 & 1 == 1,
        }
    }
}

/// An entry of a list as a walk read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRead {
    /// Position in the list, from 0.
    pub at: u8,
    /// The index that was read first.
    pub index: u8,
    /// The zone that was read after it.
    pub zone: ZoneName,
}

impl EntryRead {
    /// Packs the value into a detail.
    pub const fn pack(self) -> u64 {
        self.at as u64 | (self.index as u64) << 8 | (self.zone.0 as u64) << 16
    }

    /// Unpacks the value from a detail.
    pub const fn unpack(detail: u64) -> Self {
        Self {
            at: detail as u8,
            index: (detail >> 8) as u8,
            zone: ZoneName((detail >> 16) as u8),
        }
    }

    /// Returns whether index and zone belong to two different entries: the entry is torn (H7).
    pub const fn is_torn(self) -> bool {
        self.index != self.zone.0 & 3
    }
}

/// A zone by number: four for each node, in the order DMA, DMA32, Normal, Movable. It is shown as
/// node and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneName(pub u8);

impl core::fmt::Display for ZoneName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kinds = ["DMA", "DMA32", "Normal", "Movable"];
        write!(f, "{}/{}", self.0 >> 2, kinds[usize::from(self.0 & 3)])
    }
}

/// A zonelist: its first eight entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListNow(pub [Option<ZoneName>; 8]);

impl ListNow {
    /// Packs the value into a detail.
    pub fn pack(self) -> u64 {
        u64::from_le_bytes(self.0.map(|zone| zone.map_or(0, |zone| zone.0 + 1)))
    }

    /// Unpacks the value from a detail.
    pub fn unpack(detail: u64) -> Self {
        let bytes = detail.to_le_bytes();
        Self(bytes.map(|byte| byte.checked_sub(1).map(ZoneName)))
    }
}

/// A zone's free frames and its MIN and LOW watermarks. The watermarks include the reserve kept
/// from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneNow {
    /// The zone.
    pub zone: ZoneName,
    /// Free frames, at most 2^20 - 1.
    pub free: u32,
    /// MIN, in frames, at most 2^18 - 1.
    pub min: u32,
    /// LOW, in frames, at most 2^18 - 1.
    pub low: u32,
}

impl ZoneNow {
    /// Packs the value into a detail; larger numbers are cut to the largest.
    pub fn pack(self) -> u64 {
        let cut = |value: u32, bits: u32| u64::from(value.min((1 << bits) - 1));
        u64::from(self.zone.0)
            | cut(self.free, 20) << 8
            | cut(self.min, 18) << 28
            | cut(self.low, 18) << 46
    }

    /// Unpacks the value from a detail.
    pub fn unpack(detail: u64) -> Self {
        let part = |at: u32, bits: u32| (detail >> at) as u32 & ((1 << bits) - 1);
        Self {
            zone: ZoneName(detail as u8),
            free: part(8, 20),
            min: part(28, 18),
            low: part(46, 18),
        }
    }
}

/// A stay of a role: where it was held, and for which point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The point at which it is held.
    pub at: LabPoint,
    /// The point that it waits for.
    pub until: LabPoint,
}

impl Stay {
    /// Packs the value into a detail.
    pub const fn pack(self) -> u64 {
        self.until as u64 | (self.at as u64) << 8
    }

    /// Unpacks the value from a detail; returns nothing if one of the numbers is no point.
    pub fn unpack(detail: u64) -> Option<Self> {
        let point = |number: u64| LabPoint::ALL.get((number & 0xff) as usize).copied();
        Some(Self {
            at: point(detail >> 8)?,
            until: point(detail)?,
        })
    }
}

/// A role at the place where it waits, or where it holds what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// The role.
    pub role: Role,
    /// Its CPU.
    pub cpu: u8,
    /// Its context.
    pub context: LabContext,
}

impl Party {
    const fn pack(self) -> u64 {
        self.cpu as u64 | (self.context as u64) << 6 | (self.role as u64) << 8
    }

    fn unpack(bits: u64) -> Self {
        Self {
            cpu: bits as u8 & 63,
            context: LabContext::of(bits >> 6 & 3),
            role: Role::of(bits >> 8 & 3),
        }
    }
}

/// The thing that a party waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Awaited {
    /// An even counter, by a loop.
    Even,
    /// An even counter, by beginning again and again.
    EvenByRounds,
    /// The serial port's lock.
    Port,
    /// Its CPU, on which a handler interrupts it.
    ItsCpu,
}

/// One edge of a wait-for graph: the waiter, what it waits for, and the party that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitsFor {
    /// The party that waits.
    pub waiter: Party,
    /// What it waits for.
    pub awaited: Awaited,
    /// The party that has it.
    pub holder: Party,
    /// The counter at that time.
    pub counter: u32,
}

impl WaitsFor {
    /// Packs the value into a detail; of the counter, only the lower 24 bits.
    pub const fn pack(self) -> u64 {
        self.waiter.pack()
            | self.holder.pack() << 12
            | (self.awaited as u64) << 24
            | ((self.counter & 0xff_ffff) as u64) << 32
    }

    /// Unpacks the value from a detail.
    pub fn unpack(detail: u64) -> Self {
        Self {
            waiter: Party::unpack(detail),
            holder: Party::unpack(detail >> 12),
            awaited: match detail >> 24 & 3 {
                0 => Awaited::Even,
                1 => Awaited::EvenByRounds,
                2 => Awaited::Port,
                _ => Awaited::ItsCpu,
            },
            counter: (detail >> 32) as u32,
        }
    }
}

impl core::fmt::Display for Party {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let context = match self.context {
            LabContext::Task => "task",
            LabContext::Interrupt => "interrupt",
            LabContext::Nmi => "NMI",
        };
        write!(f, "cpu{}'s {context}", self.cpu)
    }
}

impl core::fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            waiter,
            holder,
            counter,
            ..
        } = self;
        match self.awaited {
            Awaited::Even => write!(f, "{waiter} waits until {counter} is even, by {holder}"),
            Awaited::EvenByRounds => {
                write!(
                    f,
                    "{waiter} goes round until {counter} is even, by {holder}"
                )
            }
            Awaited::Port => write!(f, "{waiter} waits for the port, held by {holder}"),
            Awaited::ItsCpu => write!(f, "{waiter} is interrupted by {holder}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    #[test]
    fn details_come_back_as_they_were() {
        let counter = AtCounter {
            counter: u32::MAX,
            serves: true,
        };
        assert_eq!(AtCounter::unpack(counter.pack()), counter);
        let read = EntryRead {
            at: 31,
            index: 2,
            zone: ZoneName(31),
        };
        assert_eq!(EntryRead::unpack(read.pack()), read);
        assert!(read.is_torn() && !EntryRead { index: 3, ..read }.is_torn());
        let list = ListNow([
            Some(ZoneName(7)),
            Some(ZoneName(0)),
            None,
            None,
            None,
            None,
            None,
            Some(ZoneName(31)),
        ]);
        assert_eq!(ListNow::unpack(list.pack()), list);
        let zone = ZoneNow {
            zone: ZoneName(6),
            free: (1 << 20) - 1,
            min: (1 << 18) - 1,
            low: 1,
        };
        assert_eq!(ZoneNow::unpack(zone.pack()), zone);
        assert_eq!(
            ZoneNow::unpack(
                ZoneNow {
                    free: u32::MAX,
                    ..zone
                }
                .pack()
            ),
            zone
        );
        for &at in LabPoint::ALL {
            let stay = Stay {
                at,
                until: LabPoint::Act,
            };
            assert_eq!(Stay::unpack(stay.pack()), Some(stay));
        }
        assert_eq!(Stay::unpack(u64::MAX), None);
    }

    #[test]
    fn an_edge_comes_back_and_reads_as_a_sentence() {
        let waiter = Party {
            role: Role::Watchdog,
            cpu: 63,
            context: LabContext::Nmi,
        };
        let holder = Party {
            role: Role::Writer,
            cpu: 1,
            context: LabContext::Task,
        };
        let all = [
            Awaited::Even,
            Awaited::EvenByRounds,
            Awaited::Port,
            Awaited::ItsCpu,
        ];
        for awaited in all {
            let edge = WaitsFor {
                waiter,
                awaited,
                holder,
                counter: 0xff_ffff,
            };
            assert_eq!(WaitsFor::unpack(edge.pack()), edge);
        }
        let edge = WaitsFor {
            waiter,
            awaited: Awaited::Port,
            holder,
            counter: 7,
        };
        assert_eq!(
            edge.to_string(),
            "cpu63's NMI waits for the port, held by cpu1's task"
        );
    }
}
