//! Chooses which lines of the log reach the terminal and the log file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use tidemark_wire::{DUMP_BEGIN, DUMP_END};

use crate::terminal::cli::Verbosity;

/// Most lines of log and summary together that a run shows without `-v`.
pub const BUDGET_LINES: usize = 150;
/// Number of lines of the log that are shown before the rest is folded.
pub const HEAD_LINES: usize = BUDGET_LINES - 50;
/// Number of lines of the log that are shown after what was folded.
pub const TAIL_LINES: usize = 15;

/// The style of good results. The stream leaves colours out where they cannot be seen.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// The style of bad results; see [`GOOD`].
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// The style of less important text; see [`GOOD`].
pub const FAINT: Style = Style::new().dimmed();

/// Prints one line. A terminal that has gone away is no reason to fail.
pub fn say(line: impl std::fmt::Display) {
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// The log of one or several runs on its way to the terminal and to `--log`.
pub struct Console {
    verbosity: Verbosity,
    log: Option<BufWriter<File>>,
    shown: usize,
    folded: usize,
    /// The last lines of the folded part.
    tail: VecDeque<String>,
    /// Whether the log is within a table that the user asked for by `--dump`.
    in_dump: bool,
}

/// The treatment of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Show,
    Fold,
    Drop,
}

impl Console {
    /// Returns a console that shows as much as `verbosity` says, and writes everything to `log`.
    ///
    /// # Errors
    /// The log cannot be created.
    pub fn new(verbosity: Verbosity, log: Option<&Path>) -> Result<Self> {
        let log = log
            .map(|path| {
                File::create(path)
                    .map(BufWriter::new)
                    .with_context(|| format!("the log {} cannot be written", path.display()))
            })
            .transpose()?;
        Ok(Console {
            verbosity,
            log,
            shown: 0,
            folded: 0,
            tail: VecDeque::new(),
            in_dump: false,
        })
    }

    /// Takes one line of the log.
    pub fn line(&mut self, line: &str) {
        if self.is_dumped(line) {
            self.unfold();
            return self.dumped_line(line);
        }
        self.write_log(line);
        match self.fate(line) {
            Fate::Show => {
                self.shown += 1;
                say(painted(line));
            }
            Fate::Fold => {
                self.folded += 1;
                if self.tail.len() == TAIL_LINES {
                    self.tail.pop_front();
                }
                self.tail.push_back(line.to_owned());
            }
            Fate::Drop => {}
        }
    }

    /// Takes one line of a log that the terminal does not show, except for tables of `--dump`.
    pub fn hidden_line(&mut self, line: &str) {
        if self.is_dumped(line) {
            self.dumped_line(line);
        } else {
            self.write_log(line);
        }
    }

    fn dumped_line(&mut self, line: &str) {
        self.write_log(line);
        say(line);
    }

    /// Returns whether a line is part of a dumped table, its first and last lines included.
    fn is_dumped(&mut self, line: &str) -> bool {
        let is_part = self.in_dump || line.starts_with(DUMP_BEGIN);
        self.in_dump = is_part && !line.starts_with(DUMP_END);
        is_part
    }

    /// Writes a line to `--log` only.
    pub fn write_log(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            // A full disk must not end the run; the file is then visibly short.
            let _ = writeln!(log, "{line}");
        }
    }

    /// Takes the log of a run that has ended, below a title in `--log`. The terminal shows it only
    /// if it shows every line.
    pub fn whole_log(&mut self, title: &str, lines: &[String]) {
        self.write_log(&format!("# {title}"));
        for line in lines {
            if self.verbosity == Verbosity::All {
                self.line(line);
            } else {
                self.write_log(line);
            }
        }
    }

    /// Shows the end of the folded part, and how much was folded.
    pub fn unfold(&mut self) {
        let hidden = self.folded - self.tail.len();
        if hidden > 0 {
            let lines = if hidden == 1 { "line" } else { "lines" };
            say(format!(
                "{FAINT}… {hidden} more {lines}: -v shows them, --log FILE keeps them{FAINT:#}"
            ));
        }
        for line in self.tail.drain(..) {
            say(painted(&line));
        }
        (self.shown, self.folded) = (0, 0);
        if let Some(log) = &mut self.log {
            let _ = log.flush();
        }
    }

    fn fate(&self, line: &str) -> Fate {
        match self.verbosity {
            Verbosity::All => Fate::Show,
            Verbosity::Quiet => Fate::Drop,
            Verbosity::Story if is_debug(line) => Fate::Drop,
            Verbosity::Story if self.shown < HEAD_LINES => Fate::Show,
            Verbosity::Story => Fate::Fold,
        }
    }
}

/// Splits `[    0.123456] cpu2: text` into the stamp with the CPU, and the text.
pub fn split_stamp(line: &str) -> Option<(&str, &str)> {
    let end = line.find("] cpu")?;
    let digits = line[end + 5..].find(": ")?;
    let stamp = line.strip_prefix('[')?[..end - 1].trim();
    let is_time = stamp.chars().all(|c| c.is_ascii_digit() || c == '.') && stamp.contains('.');
    let text = end + 5 + digits + 2;
    is_time.then(|| line.split_at(text))
}

/// Returns a line without characters that would move the terminal's cursor.
pub fn printable(text: &str) -> String {
    text.trim_end_matches('\r')
        .chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Returns whether the kernel marked the line as one that only `-v` shows.
pub fn is_debug(line: &str) -> bool {
    split_stamp(line).is_some_and(|(_, text)| text.starts_with("debug: "))
}

fn painted(line: &str) -> String {
    match split_stamp(line) {
        Some((stamp, text)) => format!("{FAINT}{stamp}{FAINT:#}{text}"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(verbosity: Verbosity) -> Console {
        Console::new(verbosity, None).unwrap()
    }

    #[test]
    fn the_story_leaves_out_details_and_folds_what_is_too_long() {
        let mut console = console(Verbosity::Story);
        assert_eq!(console.fate("[    0.1] cpu0: debug: x"), Fate::Drop);
        assert_eq!(console.fate("[    0.1] cpu0: x"), Fate::Show);
        console.shown = HEAD_LINES;
        assert_eq!(console.fate("[    0.1] cpu0: x"), Fate::Fold);
        for n in 0..40 {
            console.line(&format!("line {n}"));
        }
        assert_eq!((console.folded, console.tail.len()), (40, TAIL_LINES));
        assert_eq!(console.tail.back().map(String::as_str), Some("line 39"));
    }

    #[test]
    fn quiet_shows_nothing_and_verbose_everything() {
        assert_eq!(console(Verbosity::Quiet).fate("x"), Fate::Drop);
        let mut all = console(Verbosity::All);
        all.shown = 10 * HEAD_LINES;
        assert_eq!(all.fate("[    0.1] cpu0: debug: x"), Fate::Show);
    }

    #[test]
    fn a_dump_is_told_from_the_log_around_it() {
        let mut console = console(Verbosity::Quiet);
        let mut is_dumped = |line: &str| console.is_dumped(line);
        assert!(!is_dumped("[    0.1] cpu0: x"));
        assert!(is_dumped("--- dimms"));
        assert!(is_dumped("no DIMM"));
        assert!(is_dumped("--- end of dimms"));
        assert!(!is_dumped("ok 1 x"));
    }

    #[test]
    fn the_log_has_every_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut console = Console::new(Verbosity::Quiet, Some(&path)).unwrap();
        console.line("one");
        console.line("[    0.1] cpu0: debug: two");
        console.unfold();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, "one\n[    0.1] cpu0: debug: two\n");
    }

    #[test]
    fn a_stamp_is_told_from_text() {
        assert_eq!(
            split_stamp("[    0.123456] cpu12: a: b"),
            Some(("[    0.123456] cpu12: ", "a: b"))
        );
        for line in ["text", "[x] cpu1: a", "ok 1 name", "[ 1.0] cpu"] {
            assert_eq!(split_stamp(line), None, "{line}");
        }
    }
}
