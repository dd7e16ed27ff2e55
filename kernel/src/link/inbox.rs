//! The inbox of messages from the host: the last answers, and counts of events.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tidemark_wire::ToGuest;

/// Most requests that can wait for their answers at one time.
const ANSWERS: usize = 16;
/// Number of DIMMs whose events are counted.
const DIMMS: usize = 32;

/// The events of one DIMM that QEMU has reported to the host, counted since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DimmEvents {
    /// Number of `DEVICE_DELETED` events.
    pub deleted: u32,
    /// Number of `ACPI_DEVICE_OST` events.
    pub osts: u32,
    /// Source event of the last OST.
    pub last_source: u32,
    /// Status of the last OST.
    pub last_status: u32,
}

/// The messages taken in. Only the receive interrupt writes it, under the port's lock; any context
/// reads it.
#[derive(Debug)]
pub(super) struct Inbox {
    /// The answers, by request number modulo the length. Number and answer are one word, so that a
    /// reader cannot mix two.
    answers: [AtomicU64; ANSWERS],
    dimms: [Dimm; DIMMS],
}

#[derive(Debug)]
struct Dimm {
    deleted: AtomicU32,
    osts: AtomicU32,
    /// Source and status of the last OST in one word.
    last: AtomicU64,
}

impl Inbox {
    pub(super) const fn new() -> Self {
        Inbox {
            answers: [const { AtomicU64::new(0) }; ANSWERS],
            dimms: [const {
                Dimm {
                    deleted: AtomicU32::new(0),
                    osts: AtomicU32::new(0),
                    last: AtomicU64::new(0),
                }
            }; DIMMS],
        }
    }

    /// Takes in a message.
    pub(super) fn put(&self, message: &ToGuest) {
        match *message {
            ToGuest::Answer { id, accepted } => {
                let word = u64::from(id) << 1 | u64::from(accepted);
                self.answers[id as usize % ANSWERS].store(word, Ordering::Relaxed);
            }
            ToGuest::DeviceDeleted { dimm } => {
                if let Some(dimm) = self.dimms.get(usize::from(dimm)) {
                    dimm.deleted.fetch_add(1, Ordering::Relaxed);
                }
            }
            ToGuest::Ost {
                dimm,
                source,
                status,
            } => {
                if let Some(dimm) = self.dimms.get(usize::from(dimm)) {
                    let last = u64::from(source) << 32 | u64::from(status);
                    dimm.last.store(last, Ordering::Relaxed);
                    // Release pairs with the Acquire in `dimm`: a reader that counts this OST sees
                    // its words, or later ones.
                    dimm.osts.fetch_add(1, Ordering::Release);
                }
            }
        }
    }

    /// Returns the answer to a request, once it has come. Request numbers start at 1.
    pub(super) fn answer_to(&self, id: u32) -> Option<bool> {
        let word = self.answers[id as usize % ANSWERS].load(Ordering::Relaxed);
        (word >> 1 == u64::from(id)).then_some(word & 1 != 0)
    }

    /// Returns the events of a DIMM; none for a number out of range.
    pub(super) fn dimm(&self, dimm: u8) -> DimmEvents {
        self.dimms
            .get(usize::from(dimm))
            .map_or_else(DimmEvents::default, |dimm| {
                let osts = dimm.osts.load(Ordering::Acquire);
                let last = dimm.last.load(Ordering::Relaxed);
                DimmEvents {
                    deleted: dimm.deleted.load(Ordering::Relaxed),
                    osts,
                    last_source: (last >> 32) as u32,
                    last_status: last as u32,
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_its_request_only() {
        let inbox = Inbox::new();
        assert_eq!(inbox.answer_to(1), None);
        inbox.put(&ToGuest::Answer {
            id: 1,
            accepted: true,
        });
        inbox.put(&ToGuest::Answer {
            id: 2,
            accepted: false,
        });
        assert_eq!(inbox.answer_to(1), Some(true));
        assert_eq!(inbox.answer_to(2), Some(false));
        assert_eq!(inbox.answer_to(1 + ANSWERS as u32), None);
        inbox.put(&ToGuest::Answer {
            id: u32::MAX,
            accepted: true,
        });
        assert_eq!(inbox.answer_to(u32::MAX), Some(true));
    }

    #[test]
    fn events_are_counted_by_dimm() {
        let inbox = Inbox::new();
        inbox.put(&ToGuest::DeviceDeleted { dimm: 1 });
        inbox.put(&ToGuest::DeviceDeleted { dimm: 1 });
        inbox.put(&ToGuest::Ost {
            dimm: 0,
            source: 3,
            status: 0x84,
        });
        inbox.put(&ToGuest::DeviceDeleted { dimm: 255 });
        assert_eq!(inbox.dimm(1).deleted, 2);
        let expected = DimmEvents {
            deleted: 0,
            osts: 1,
            last_source: 3,
            last_status: 0x84,
        };
        assert_eq!(inbox.dimm(0), expected);
        assert_eq!(inbox.dimm(255), DimmEvents::default());
    }
}
