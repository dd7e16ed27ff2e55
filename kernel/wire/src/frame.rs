//! Framing of messages: COBS over postcard, with one zero byte at the end of each message.

use serde::{Serialize, de::DeserializeOwned};

/// Most bytes in the frame of any message, its zero byte included.
pub const MAX_FRAME_BYTES: usize = 256;

/// The reason why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The frame is longer than [`MAX_FRAME_BYTES`], or the given buffer is too small for the
    /// message.
    TooLong,
    /// The frame does not decode as a message of this protocol.
    Malformed,
}

/// Writes `message` as one frame into `buffer` and returns the frame.
///
/// # Errors
/// Returns [`WireError::TooLong`] if `buffer` is too small; [`MAX_FRAME_BYTES`] is always enough.
pub fn encode<'b, M: Serialize>(
    message: &M,
    buffer: &'b mut [u8],
) -> Result<&'b mut [u8], WireError> {
    postcard::to_slice_cobs(message, buffer).map_err(|_| WireError::TooLong)
}

/// Collects bytes until a frame is complete. After an error it resumes after the next zero byte.
#[derive(Debug)]
pub struct Decoder {
    buffer: [u8; MAX_FRAME_BYTES],
    used: usize,
    overflowed: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Returns an empty decoder.
    pub const fn new() -> Self {
        Decoder {
            buffer: [0; MAX_FRAME_BYTES],
            used: 0,
            overflowed: false,
        }
    }

    /// Takes one byte. When the byte ends a frame, returns the message, or what was wrong with the
    /// frame. An empty frame is ignored.
    pub fn push<M: DeserializeOwned>(&mut self, byte: u8) -> Option<Result<M, WireError>> {
        if byte != 0 {
            // The last place is for the zero byte, so a frame without room for it is too long.
            if self.used + 1 < MAX_FRAME_BYTES {
                self.buffer[self.used] = byte;
                self.used += 1;
            } else {
                self.overflowed = true;
            }
            return None;
        }
        let (used, overflowed) = (self.used, self.overflowed);
        (self.used, self.overflowed) = (0, false);
        if overflowed {
            return Some(Err(WireError::TooLong));
        }
        if used == 0 {
            return None;
        }
        self.buffer[used] = 0;
        Some(postcard::from_bytes_cobs(&mut self.buffer[..=used]).map_err(|_| WireError::Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ask, Source, SourceCounts, ToGuest, ToHost, Totals};

    fn feed<M: DeserializeOwned>(
        decoder: &mut Decoder,
        bytes: &[u8],
    ) -> Option<Result<M, WireError>> {
        let mut last = None;
        for &byte in bytes {
            if let Some(result) = decoder.push(byte) {
                assert!(last.is_none(), "two messages out of one frame");
                last = Some(result);
            }
        }
        last
    }

    #[test]
    fn every_message_survives_the_wire() {
        let full = SourceCounts {
            requests: u64::MAX,
            failures: u64::MAX,
            failures_overlapping_rebuild: u64::MAX,
            failures_fresh_walk_serves: u64::MAX,
            failures_under_announced_pressure: u64::MAX,
            slow_path: u64::MAX,
            odd: u64::MAX,
            overlapped: u64::MAX,
            retries: u64::MAX,
        };
        let totals = Totals {
            frames_lost: u64::MAX,
            pulls: u64::MAX,
            rebuilds: u64::MAX,
            ..Totals::default()
        };
        let mut decoder = Decoder::new();
        for message in [
            ToHost::Hello { protocol: 1 },
            ToHost::Ready {
                cpus: 64,
                cpus_left_out: 0,
                nodes: 8,
            },
            ToHost::Heartbeat {
                seq: 0,
                now_ns: u64::MAX,
                silent_cpu: Some(3),
            },
            ToHost::Ask {
                id: 7,
                ask: Ask::Pull { dimm: 1 },
            },
            ToHost::Counts {
                source: Source::Nmi,
                counts: full,
            },
            ToHost::Totals(totals),
            ToHost::Crash {
                cpu: 1,
                rip: u64::MAX,
            },
        ] {
            let mut buffer = [0; MAX_FRAME_BYTES];
            let frame = encode(&message, &mut buffer).unwrap();
            assert_eq!(feed(&mut decoder, frame), Some(Ok(message)));
        }
        let mut buffer = [0; MAX_FRAME_BYTES];
        let answer = ToGuest::Ost {
            dimm: 0,
            source: 3,
            status: 0x81,
        };
        let frame = encode(&answer, &mut buffer).unwrap();
        assert_eq!(feed(&mut decoder, frame), Some(Ok(answer)));
    }

    #[test]
    fn a_damaged_frame_costs_only_itself() {
        let mut decoder = Decoder::new();
        let mut buffer = [0; MAX_FRAME_BYTES];
        let message = ToHost::Hello { protocol: 1 };
        let frame = encode(&message, &mut buffer).unwrap();
        assert_eq!(
            feed::<ToHost>(&mut decoder, &[0xff, 0xff, 0]),
            Some(Err(WireError::Malformed))
        );
        assert_eq!(feed(&mut decoder, frame), Some(Ok(message)));
        for _ in 0..2 * MAX_FRAME_BYTES {
            assert_eq!(decoder.push::<ToHost>(1), None);
        }
        assert_eq!(decoder.push::<ToHost>(0), Some(Err(WireError::TooLong)));
        assert_eq!(feed(&mut decoder, frame), Some(Ok(message)));
    }
}
