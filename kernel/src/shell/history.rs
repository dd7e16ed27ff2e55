//! The last lines that were typed, for the arrow keys.

use super::editor::LINE_BYTES;

/// Number of lines that are remembered; a power of two, so that the count may wrap.
const LINES: usize = 16;

/// A copy of a line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    bytes: [u8; LINE_BYTES],
    used: usize,
}

impl Line {
    const EMPTY: Line = Line {
        bytes: [0; LINE_BYTES],
        used: 0,
    };

    fn of(line: &[u8]) -> Self {
        let used = line.len().min(LINE_BYTES);
        let mut copy = Line {
            used,
            ..Line::EMPTY
        };
        copy.bytes[..used].copy_from_slice(&line[..used]);
        copy
    }

    /// Returns its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// The last lines that were not empty.
#[derive(Debug)]
pub struct History {
    lines: [Line; LINES],
    /// Number of lines remembered so far. The last one is at this number, minus one, modulo
    /// [`LINES`].
    count: usize,
    /// How many lines back the user has gone; 0 is the line that is being typed.
    back: usize,
}

impl History {
    /// Returns a history without lines.
    pub const fn new() -> Self {
        History {
            lines: [Line::EMPTY; LINES],
            count: 0,
            back: 0,
        }
    }

    /// Remembers a line, unless it is empty or equal to the last one.
    pub fn remember(&mut self, line: &[u8]) {
        self.back = 0;
        if line.is_empty() || self.at(1).is_some_and(|last| last.as_bytes() == line) {
            return;
        }
        self.lines[self.count % LINES] = Line::of(line);
        self.count = self.count.wrapping_add(1);
    }

    /// Returns to the line that is being typed.
    pub fn forget_place(&mut self) {
        self.back = 0;
    }

    /// Goes one line back and returns it; returns nothing if there is none.
    pub fn older(&mut self) -> Option<Line> {
        self.at(self.back + 1)?;
        self.back += 1;
        self.at(self.back)
    }

    /// Goes one line forward and returns it, or the empty line after the last. Returns nothing from
    /// there.
    pub fn newer(&mut self) -> Option<Line> {
        self.back = self.back.checked_sub(1)?;
        Some(self.at(self.back).unwrap_or(Line::EMPTY))
    }

    fn at(&self, back: usize) -> Option<Line> {
        if back == 0 || back > self.count.min(LINES) {
            return None;
        }
        Some(self.lines[(self.count - back) % LINES])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn older(history: &mut History) -> Option<u8> {
        history.older().map(|line| line.as_bytes()[0])
    }

    #[test]
    fn lines_come_back_in_reverse_and_forward_again() {
        let mut history = History::new();
        assert_eq!(older(&mut history), None);
        for line in ["a", "b", "", "b", "c"] {
            history.remember(line.as_bytes());
        }
        for expected in [Some(b'c'), Some(b'b'), Some(b'a'), None] {
            assert_eq!(older(&mut history), expected);
        }
        for expected in [&b"b"[..], b"c", b""] {
            assert_eq!(history.newer().unwrap().as_bytes(), expected);
        }
        assert!(history.newer().is_none());
        assert_eq!(older(&mut history), Some(b'c'));
        history.forget_place();
        assert_eq!(older(&mut history), Some(b'c'));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut history = History::new();
        for line in 0..LINES as u8 + 3 {
            history.remember(&[b'a' + line]);
        }
        let mut oldest = 0;
        while let Some(line) = older(&mut history) {
            oldest = line;
        }
        assert_eq!(oldest, b'a' + 3);
    }
}
