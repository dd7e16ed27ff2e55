//! One line of the log as a record of words, and texts cut into pieces.

use super::Level;
use core::fmt;

/// Words in a record: sequence number, time, header, text.
pub const RECORD_WORDS: usize = 27;
const TEXT_WORDS: usize = RECORD_WORDS - 3;
/// Most bytes of text in one record; a longer line goes on in the next record.
pub const TEXT_BYTES: usize = TEXT_WORDS * 8;
/// Most bytes in a printed line: its prefix, its text, its end.
pub const LINE_BYTES: usize = TEXT_BYTES + 64;

/// One line of the log, with its number, time, level and CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Place in the order of the records of all CPUs.
    pub seq: u64,
    /// When it was stored, in nanoseconds since boot.
    pub time_ns: u64,
    /// Its importance.
    pub level: Level,
    /// The CPU that stored it.
    pub cpu: u8,
    /// Number of bytes of text in use.
    len: u8,
    text: [u8; TEXT_BYTES],
}

impl Record {
    /// Makes a record of CPU 0. The part of `line` that does not fit is cut off.
    pub fn new(seq: u64, time_ns: u64, level: Level, line: &str) -> Self {
        let len = line.len().min(TEXT_BYTES);
        let mut text = [0; TEXT_BYTES];
        text[..len].copy_from_slice(&line.as_bytes()[..len]);
        Record {
            seq,
            time_ns,
            level,
            cpu: 0,
            len: len as u8,
            text,
        }
    }

    /// Returns the words that a ring stores.
    pub fn as_words(&self) -> [u64; RECORD_WORDS] {
        let mut words = [0; RECORD_WORDS];
        words[0] = self.seq;
        words[1] = self.time_ns;
        words[2] = self.level as u64 | u64::from(self.cpu) << 8 | u64::from(self.len) << 16;
        for (word, bytes) in words[3..].iter_mut().zip(self.text.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    }

    /// Returns the record that [`Record::as_words`] turned into these words.
    pub fn from_words(words: &[u64; RECORD_WORDS]) -> Self {
        let mut text = [0; TEXT_BYTES];
        for (bytes, word) in text.as_chunks_mut::<8>().0.iter_mut().zip(&words[3..]) {
            *bytes = word.to_le_bytes();
        }
        Record {
            seq: words[0],
            time_ns: words[1],
            level: Level::from_code(words[2] as u8),
            cpu: (words[2] >> 8) as u8,
            len: ((words[2] >> 16) as u8).min(TEXT_BYTES as u8),
            text,
        }
    }

    /// Returns the prefix of the line: the time, the CPU and the level's mark.
    pub fn prefix(&self) -> Prefix<'_> {
        Prefix(self)
    }

    /// Returns the text. A character that was cut in the middle is left out.
    pub fn text(&self) -> &str {
        let bytes = &self.text[..usize::from(self.len)];
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
        }
    }
}

/// The part of a line before a record's text.
#[derive(Debug)]
pub struct Prefix<'r>(&'r Record);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record {
            time_ns,
            level,
            cpu,
            ..
        } = *self.0;
        let micros = time_ns / 1000;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let mark = match level {
            Level::Plain | Level::Raw => return Ok(()),
            Level::Warn => "warning: ",
            Level::Info => "",
            Level::Debug => "debug: ",
        };
        write!(f, "[{seconds:5}.{micros:06}] cpu{cpu}: {mark}")
    }
}

impl fmt::Display for Record {
    /// Writes the whole line with its end: `[ 0.123456] cpu2: text`. Raw text is written unchanged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Raw => f.write_str(self.text()),
            _ => writeln!(f, "{}{}", self.prefix(), self.text()),
        }
    }
}

/// Cuts what is written to it at line ends, and where a record is full, and gives each piece to
/// `store`.
#[derive(Debug)]
pub struct Pieces<F: FnMut(&str)> {
    piece: heapless::String<TEXT_BYTES>,
    keeps_ends: bool,
    store: F,
}

impl<F: FnMut(&str)> Pieces<F> {
    /// Starts with nothing. Lines lose their ends, or keep them.
    pub fn new(keeps_ends: bool, store: F) -> Self {
        Pieces {
            piece: heapless::String::new(),
            keeps_ends,
            store,
        }
    }

    /// Stores the last piece.
    pub fn finish(mut self) {
        if !self.piece.is_empty() {
            self.end_piece();
        }
    }

    fn end_piece(&mut self) {
        (self.store)(&self.piece);
        self.piece.clear();
    }
}

impl<F: FnMut(&str)> fmt::Write for Pieces<F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let is_end = character == '\n';
            if (self.keeps_ends || !is_end) && self.piece.push(character).is_err() {
                self.end_piece();
                // An empty piece has room.
                let _ = self.piece.push(character);
            }
            if is_end {
                self.end_piece();
            }
        }
        Ok(())
    }
}

/// A buffer of bytes to format one line into. What does not fit is cut off.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: [u8; LINE_BYTES],
    used: usize,
}

impl LineBuffer {
    /// Returns an empty buffer.
    pub const fn new() -> Self {
        LineBuffer {
            bytes: [0; LINE_BYTES],
            used: 0,
        }
    }

    /// Returns the bytes that were written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl fmt::Write for LineBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.used..];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.used += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use core::fmt::Write as _;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn lines(texts: &[&str]) -> Vec<String> {
        let mut stored = Vec::new();
        let mut lines = Pieces::new(false, |line: &str| stored.push(line.to_string()));
        for text in texts {
            lines.write_str(text).unwrap();
        }
        lines.finish();
        stored
    }

    #[test]
    fn raw_text_is_shown_as_it_is() {
        let shown = |level, text| Record::new(1, 2_000, level, text).to_string();
        assert_eq!(shown(Level::Raw, "tidemark> "), "tidemark> ");
        assert_eq!(shown(Level::Raw, "a line\n"), "a line\n");
        assert_eq!(shown(Level::Plain, "ok 1"), "ok 1\n");
        assert_eq!(
            Record::from_words(&Record::new(1, 2, Level::Raw, "").as_words()).level,
            Level::Raw
        );
    }

    #[test]
    fn pieces_keep_line_ends_and_stay_within_a_record() {
        let mut stored = Vec::new();
        let mut pieces = Pieces::new(true, |piece: &str| stored.push(piece.to_string()));
        let long = "ä".repeat(TEXT_BYTES / 2 + 1);
        for text in ["one\ntw", "o\n\n", long.as_str(), "\n", "> "] {
            pieces.write_str(text).unwrap();
        }
        pieces.finish();
        assert_eq!(&stored[..3], ["one\n", "two\n", "\n"]);
        assert_eq!(stored[3].len(), TEXT_BYTES);
        assert_eq!(stored[4..], ["ä\n", "> "]);
    }

    #[test]
    fn a_record_survives_its_words() {
        for (level, line) in [
            (Level::Plain, ""),
            (Level::Warn, "w"),
            (Level::Info, "zwölf Kästen"),
            (Level::Debug, "0123456789abcdef"),
        ] {
            let mut record = Record::new(5, 6, level, line);
            record.cpu = 63;
            assert_eq!(Record::from_words(&record.as_words()), record);
            assert_eq!(record.text(), line);
        }
        let full = "x".repeat(TEXT_BYTES);
        let record = Record::new(1, 2, Level::Info, &full);
        assert_eq!(Record::from_words(&record.as_words()).text(), full);
    }

    #[test]
    fn words_that_are_no_record_do_no_harm() {
        let record = Record::from_words(&[u64::MAX; RECORD_WORDS]);
        assert_eq!(record.text(), "");
    }

    #[test]
    fn lines_look_as_documented() {
        let line = |level, ns| {
            let mut record = Record::new(0, ns, level, "text");
            record.cpu = 2;
            record.to_string()
        };
        assert_eq!(
            line(Level::Info, 123_456_789),
            "[    0.123456] cpu2: text\n"
        );
        assert_eq!(
            line(Level::Warn, 12_000_001_000),
            "[   12.000001] cpu2: warning: text\n"
        );
        assert_eq!(line(Level::Debug, 0), "[    0.000000] cpu2: debug: text\n");
        assert_eq!(line(Level::Plain, 1), "text\n");
    }

    #[test]
    fn the_longest_line_fits_its_buffer() {
        let mut record = Record::new(0, u64::MAX, Level::Warn, &"x".repeat(TEXT_BYTES));
        record.cpu = 255;
        let mut buffer = LineBuffer::new();
        write!(buffer, "{record}").unwrap();
        assert_eq!(buffer.as_bytes(), record.to_string().as_bytes());
    }

    #[test]
    fn a_text_is_cut_at_its_line_ends() {
        assert_eq!(lines(&["a\nb"]), ["a", "b"]);
        assert_eq!(lines(&["a", "b\n", "\n", "c\n"]), ["ab", "", "c"]);
        assert_eq!(lines(&[""]), [] as [&str; 0]);
    }

    #[test]
    fn a_long_line_goes_on_and_no_character_is_cut() {
        let long = "ü".repeat(TEXT_BYTES);
        let got = lines(&["x", &long]);
        assert_eq!(got.concat(), "x".to_string() + &long);
        assert!(got.iter().all(|line| line.len() <= TEXT_BYTES));
        assert_eq!(got.len(), 3);
    }
}
