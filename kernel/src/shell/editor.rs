//! Editor of one line of input: bytes go in, echo and lines come out.

use super::PROMPT;
use super::command;
use super::history::{History, Line};
use core::fmt::Write;

/// Most bytes in a line.
pub const LINE_BYTES: usize = 160;

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CTRL_L: u8 = 0x0c;
const CTRL_U: u8 = 0x15;
const CTRL_W: u8 = 0x17;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// The effect of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// The line is not complete yet.
    More,
    /// The line is complete: see [`Editor::line`]. The next byte begins a new one.
    Line,
    /// The line was discarded.
    Killed,
    /// The end of the input, on an empty line.
    End,
}

/// The position of the input in an escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    Begun,
    /// After `ESC [` come parameters, until a byte from `@` on.
    Sequence,
}

/// A line that is being typed. Its length is bounded; what does not fit is refused with a bell.
#[derive(Debug)]
pub struct Editor {
    line: [u8; LINE_BYTES],
    used: usize,
    complete: bool,
    /// Whether the last byte was a carriage return. A line feed after it is part of the same end.
    returned: bool,
    escape: Escape,
    history: History,
}

impl Editor {
    /// Returns an editor with an empty line.
    pub const fn new() -> Self {
        Editor {
            line: [0; LINE_BYTES],
            used: 0,
            complete: false,
            returned: false,
            escape: Escape::No,
            history: History::new(),
        }
    }

    /// Returns the line so far.
    pub fn line(&self) -> &str {
        // The line takes only printable ASCII, so the conversion cannot fail.
        core::str::from_utf8(&self.line[..self.used]).unwrap_or("")
    }

    /// Takes one byte, and writes to `echo` what the terminal is to show for it.
    pub fn byte(&mut self, byte: u8, echo: &mut impl Write) -> Typed {
        if self.complete {
            (self.used, self.complete) = (0, false);
        }
        let after_return = core::mem::replace(&mut self.returned, byte == b'\r');
        if self.in_escape(byte, echo) {
            return Typed::More;
        }
        match byte {
            b'\n' if after_return => {}
            b'\r' | b'\n' => {
                show(echo, "\n");
                self.complete = true;
                self.history.remember(&self.line[..self.used]);
                return Typed::Line;
            }
            CTRL_C => {
                show(echo, "^C\n");
                self.used = 0;
                self.history.forget_place();
                return Typed::Killed;
            }
            CTRL_D if self.used == 0 => {
                show(echo, "\n");
                return Typed::End;
            }
            BACKSPACE | DELETE => self.erase(1, echo),
            CTRL_U => self.erase(self.used, echo),
            CTRL_W => self.erase(self.last_word(), echo),
            CTRL_L => {
                show(echo, "\x1b[H\x1b[2J");
                show(echo, PROMPT);
                show(echo, self.line());
            }
            ESCAPE => self.escape = Escape::Begun,
            b'\t' => self.complete_command(echo),
            b' '..=b'~' => self.insert(byte, echo),
            _ => {}
        }
        Typed::More
    }

    /// Acts on the up and down arrows, and discards what other such keys send.
    fn in_escape(&mut self, byte: u8, echo: &mut impl Write) -> bool {
        let was = self.escape;
        self.escape = match (was, byte) {
            (Escape::Begun, b'[' | b'O') => Escape::Sequence,
            (Escape::Sequence, b' '..=b'?') => Escape::Sequence,
            _ => Escape::No,
        };
        let recalled = match (was, byte) {
            (Escape::Sequence, b'A') => self.history.older(),
            (Escape::Sequence, b'B') => self.history.newer(),
            _ => None,
        };
        if let Some(line) = recalled {
            self.replace(line, echo);
        }
        // A control byte in the middle of a sequence keeps its own meaning.
        was != Escape::No && byte >= b' '
    }

    /// Completes the first word as far as all commands that begin with it agree. A word that is
    /// complete gets a space, and so does the text after a command.
    fn complete_command(&mut self, echo: &mut impl Write) {
        let begun = self.line();
        let mut matching = command::names().filter(|name| name.starts_with(begun));
        let first = matching.next().filter(|_| !begun.is_empty());
        let Some(first) = first else {
            return self.insert(b' ', echo);
        };
        let agreed = matching.fold(first.len(), |agreed, name| {
            let same = first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b);
            agreed.min(same.count())
        });
        let missing = &first.as_bytes()[begun.len()..agreed];
        if missing.is_empty() && agreed < first.len() {
            return show(echo, "\x07");
        }
        for &byte in missing {
            self.insert(byte, echo);
        }
        if agreed == first.len() {
            self.insert(b' ', echo);
        }
    }

    /// Returns the number of bytes of the last word, with the spaces after it.
    fn last_word(&self) -> usize {
        let line = self.line().trim_end();
        self.used - line.rfind(' ').map_or(0, |space| space + 1)
    }

    fn insert(&mut self, byte: u8, echo: &mut impl Write) {
        let Some(place) = self.line.get_mut(self.used) else {
            return show(echo, "\x07");
        };
        *place = byte;
        self.used += 1;
        // The echo goes only to the console, which does not fail.
        let _ = echo.write_char(char::from(byte));
    }

    fn replace(&mut self, line: Line, echo: &mut impl Write) {
        self.erase(self.used, echo);
        for &byte in line.as_bytes() {
            self.insert(byte, echo);
        }
    }

    fn erase(&mut self, bytes: usize, echo: &mut impl Write) {
        for _ in 0..bytes.min(self.used) {
            self.used -= 1;
            show(echo, "\x08 \x08");
        }
    }
}

impl Default for Editor {
    fn default() -> Self {
        Self::new()
    }
}

fn show(echo: &mut impl Write, text: &str) {
    // The echo goes only to the console, which does not fail.
    let _ = echo.write_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::{String, ToString};
    use std::vec::Vec;

    /// Returns the lines that the bytes make, the rest of the next one, and the echo.
    fn typed(bytes: &[u8]) -> (Vec<String>, String, String) {
        let (mut editor, mut lines, mut echo) = (Editor::new(), Vec::new(), String::new());
        for &byte in bytes {
            if editor.byte(byte, &mut echo) == Typed::Line {
                lines.push(editor.line().to_string());
            }
        }
        let rest = if editor.complete { "" } else { editor.line() };
        (lines, rest.to_string(), echo)
    }

    #[test]
    fn every_kind_of_line_end_ends_one_line() {
        let (lines, rest, echo) = typed(b"a\nb\rc\r\nd\n\ne");
        assert_eq!(lines, ["a", "b", "c", "d", ""]);
        assert_eq!((rest.as_str(), echo.as_str()), ("e", "a\nb\nc\nd\n\ne"));
    }

    #[test]
    fn backspace_erases_on_the_terminal_too_and_stops_at_the_beginning() {
        let (lines, _, echo) = typed(b"ab\x7f\x08\x08c\n");
        assert_eq!(lines, ["c"]);
        assert_eq!(echo, "ab\x08 \x08\x08 \x08c\n");
        let (lines, _, _) = typed(b"abc\x15d\n");
        assert_eq!(lines, ["d"]);
    }

    #[test]
    fn tab_completes_a_command_as_far_as_it_is_the_only_one() {
        for (keys, line) in [
            ("zo\ti\t", "zoneinfo "),
            ("bu\t", "buddyinfo "),
            ("free\t1", "free 1"),
            ("alloc\t3\t1", "alloc 3 1"),
            ("x\ty", "x y"),
            ("\t", " "),
        ] {
            let (_, rest, _) = typed(keys.as_bytes());
            assert_eq!(rest, line, "{keys:?}");
        }
        // No completion is known here.
        let (_, rest, echo) = typed(b"zone\t");
        assert_eq!((rest.as_str(), echo.as_str()), ("zone", "zone\x07"));
    }

    #[test]
    fn control_w_erases_a_word_and_control_l_the_screen_around_the_line() {
        let (_, rest, _) = typed(b"alloc 3  \x17");
        assert_eq!(rest, "alloc ");
        let (_, rest, _) = typed(b"alloc\x17");
        assert_eq!(rest, "");
        let (_, rest, echo) = typed(b"ab\x0cc");
        assert_eq!(rest, "abc");
        assert_eq!(echo, std::format!("ab\x1b[H\x1b[2J{PROMPT}abc"));
    }

    #[test]
    fn control_c_throws_the_line_away() {
        let mut editor = Editor::new();
        let mut echo = String::new();
        for &byte in b"abc" {
            assert_eq!(editor.byte(byte, &mut echo), Typed::More);
        }
        assert_eq!(editor.byte(CTRL_C, &mut echo), Typed::Killed);
        assert_eq!((editor.line(), echo.as_str()), ("", "abc^C\n"));
    }

    #[test]
    fn control_d_ends_the_input_on_an_empty_line_only() {
        let mut editor = Editor::new();
        let mut echo = String::new();
        editor.byte(b'a', &mut echo);
        assert_eq!(editor.byte(CTRL_D, &mut echo), Typed::More);
        editor.byte(DELETE, &mut echo);
        assert_eq!(editor.byte(CTRL_D, &mut echo), Typed::End);
    }

    #[test]
    fn a_line_is_bounded_and_says_so() {
        let mut bytes = std::vec![b'x'; LINE_BYTES + 3];
        bytes.push(b'\n');
        let (lines, _, echo) = typed(&bytes);
        assert_eq!(lines[0].len(), LINE_BYTES);
        assert_eq!(echo.matches('\x07').count(), 3);
    }

    #[test]
    fn the_arrows_bring_lines_back() {
        let up = "\x1b[A";
        let down = "\x1b[B";
        let (lines, _, echo) = typed(std::format!("one\ntwo\nx{up}{up}{down}{up}!\n").as_bytes());
        assert_eq!(lines, ["one", "two", "one!"]);
        let erased = "\x08 \x08".repeat(3);
        assert!(echo.ends_with(&std::format!("{erased}two{erased}one!\n")));
        let (lines, _, _) = typed(std::format!("one\n{up}{down}{down}\n").as_bytes());
        assert_eq!(lines, ["one", ""]);
    }

    #[test]
    fn arrow_keys_and_bytes_that_are_no_text_leave_no_trace() {
        let (lines, _, echo) = typed(b"a\x1b[Ab\x1bOB\x1b[1;5C\x00\xc3\xa4c\n");
        assert_eq!((lines[0].as_str(), echo.as_str()), ("abc", "abc\n"));
        let (lines, _, _) = typed(b"a\x1b\nb\n");
        assert_eq!(lines, ["a", "b"]);
    }
}
