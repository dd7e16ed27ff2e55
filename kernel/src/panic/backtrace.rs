//! Return addresses by frame pointers, each step checked against the bounds of a known stack.

use core::ops::Range;

/// Most frames of calls that a report shows.
pub const MAX_FRAMES: usize = 32;

/// Access to stacks and their contents: the kernel's memory, or a test's.
pub trait Stacks {
    /// Returns the bounds of the mapped stack that `address` lies in, if that is known.
    fn bounds_of(&self, address: u64) -> Option<Range<u64>>;

    /// Returns the word at `address`, which lies within a stack's bounds and is aligned.
    fn word_at(&self, address: u64) -> u64;
}

/// The reason why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The walk reached the first frame of a thread or of boot: the frame pointer, or the return
    /// address, is 0.
    First,
    /// This frame pointer lies in no known stack, is not aligned, or does not lie above the one
    /// before.
    Unknown(u64),
    /// The walk reached [`MAX_FRAMES`].
    Limit,
}

/// Calls `frame` with each return address, innermost first, from a frame pointer on.
///
/// It never reads outside a known stack. It always ends, because every frame lies above the one
/// before on the same stack.
pub fn walk(stacks: &impl Stacks, frame_pointer: u64, mut frame: impl FnMut(u64)) -> End {
    let Some(bounds) = stacks.bounds_of(frame_pointer) else {
        return if frame_pointer == 0 {
            End::First
        } else {
            End::Unknown(frame_pointer)
        };
    };
    let (mut at, mut lowest) = (frame_pointer, bounds.start);
    for _ in 0..MAX_FRAMES {
        if at == 0 {
            return End::First;
        }
        let whole = at.checked_add(16).is_some_and(|end| end <= bounds.end);
        if at < lowest || !whole || at % 8 != 0 {
            return End::Unknown(at);
        }
        let return_address = stacks.word_at(at + 8);
        if return_address == 0 {
            return End::First;
        }
        frame(return_address);
        lowest = at + 16;
        at = stacks.word_at(at);
    }
    End::Limit
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    /// A stack of words from 0x1000 on; reading any other address panics.
    struct Fake([u64; 16]);

    impl Stacks for Fake {
        fn bounds_of(&self, address: u64) -> Option<Range<u64>> {
            let bounds = 0x1000..0x1000 + 16 * 8;
            bounds.contains(&address).then_some(bounds)
        }

        fn word_at(&self, address: u64) -> u64 {
            assert_eq!(address % 8, 0);
            self.0[(address - 0x1000) as usize / 8]
        }
    }

    fn walked(words: &[(usize, u64)], from: u64) -> (Vec<u64>, End) {
        let mut fake = Fake([0; 16]);
        for &(at, word) in words {
            fake.0[at] = word;
        }
        let mut frames = Vec::new();
        let end = walk(&fake, from, |address| frames.push(address));
        (frames, end)
    }

    #[test]
    fn frames_are_followed_to_the_first() {
        let words = [
            (0, 0x1020),
            (1, 0xa),
            (4, 0x1040),
            (5, 0xb),
            (8, 0),
            (9, 0xc),
        ];
        assert_eq!(
            walked(&words, 0x1000),
            (Vec::from([0xa, 0xb, 0xc]), End::First)
        );
    }

    #[test]
    fn a_zero_return_address_is_the_first_frame() {
        assert_eq!(walked(&[(0, 0x1020)], 0x1000), (Vec::new(), End::First));
    }

    #[test]
    fn no_pointer_out_of_the_stack_is_followed() {
        for wild in [1, 0xfff, 0x1080, 0xffff_ffff_ffff_fff8, 0xdead_0000_0000] {
            assert_eq!(
                walked(&[], wild),
                (Vec::new(), End::Unknown(wild)),
                "{wild:#x}"
            );
            let (frames, end) = walked(&[(0, wild), (1, 0xa)], 0x1000);
            assert_eq!(
                (frames, end),
                (Vec::from([0xa]), End::Unknown(wild)),
                "{wild:#x}"
            );
        }
        // The last word of the stack has no room for a return address.
        assert_eq!(walked(&[], 0x1078).1, End::Unknown(0x1078));
        assert_eq!(walked(&[], 0x1004).1, End::Unknown(0x1004));
    }

    #[test]
    fn a_circle_ends() {
        let words = [(0, 0x1020), (1, 0xa), (4, 0x1000), (5, 0xb)];
        assert_eq!(
            walked(&words, 0x1000),
            (Vec::from([0xa, 0xb]), End::Unknown(0x1000))
        );
    }
}
