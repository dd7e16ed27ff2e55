//! KTAP version 1 on two levels. Every line is whole and without a time stamp.

use super::Summary;
use core::fmt;

/// The destination of lines.
pub(super) trait Sink {
    /// Takes one line, without its end.
    fn line(&mut self, line: fmt::Arguments<'_>);
}

/// The result of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    NotOk,
    Skip(&'static str),
}

/// Writes diagnostic lines of a test within a group: `  # …`, one for each line of the text.
pub(super) fn note(sink: &mut impl Sink, text: fmt::Arguments<'_>) {
    sink.line(format_args!("{}", Commented(text)));
}

/// The top level.
pub(super) struct Ktap<'s, S: Sink> {
    sink: &'s mut S,
    groups: usize,
    summary: Summary,
}

impl<'s, S: Sink> Ktap<'s, S> {
    /// Prints the version and the plan.
    pub(super) fn begin(sink: &'s mut S, groups: usize) -> Self {
        sink.line(format_args!("KTAP version 1"));
        sink.line(format_args!("1..{groups}"));
        Ktap {
            sink,
            groups: 0,
            summary: Summary::default(),
        }
    }

    /// Begins a group.
    pub(super) fn subtest<'k>(
        &'k mut self,
        name: &'static str,
        tests: usize,
    ) -> Subtest<'k, 's, S> {
        self.groups += 1;
        self.sink.line(format_args!("  KTAP version 1"));
        self.sink.line(format_args!("  # Subtest: {}", Name(name)));
        self.sink.line(format_args!("  1..{tests}"));
        Subtest {
            top: self,
            name,
            number: 0,
            counts: Summary::default(),
        }
    }

    /// Returns the counts over all groups that have ended.
    pub(super) fn summary(&self) -> Summary {
        self.summary
    }
}

/// One group.
pub(super) struct Subtest<'k, 's, S: Sink> {
    top: &'k mut Ktap<'s, S>,
    name: &'static str,
    number: u32,
    counts: Summary,
}

impl<S: Sink> Subtest<'_, '_, S> {
    /// Prints a test's result.
    pub(super) fn result(&mut self, name: &str, verdict: Verdict) {
        self.number += 1;
        let (number, name) = (self.number, Name(name));
        match verdict {
            Verdict::Ok => {
                self.counts.ok += 1;
                self.top.sink.line(format_args!("  ok {number} {name}"));
            }
            Verdict::NotOk => {
                self.counts.not_ok += 1;
                self.top.sink.line(format_args!("  not ok {number} {name}"));
            }
            Verdict::Skip(reason) => {
                self.counts.skipped += 1;
                self.top
                    .sink
                    .line(format_args!("  ok {number} {name} # SKIP {reason}"));
            }
        }
    }

    /// Prints the group's own result: a failed test fails it, a skipped one does not.
    pub(super) fn end(self) {
        let verdict = if self.counts.not_ok > 0 {
            "not ok"
        } else {
            "ok"
        };
        let (number, name) = (self.top.groups, Name(self.name));
        self.top
            .sink
            .line(format_args!("{verdict} {number} {name}"));
        let summary = &mut self.top.summary;
        summary.ok += self.counts.ok;
        summary.not_ok += self.counts.not_ok;
        summary.skipped += self.counts.skipped;
    }
}

/// A name, written without the `#` that would begin a directive.
struct Name<'n>(&'n str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split('#').try_for_each(|part| f.write_str(part))
    }
}

/// A text with `  # ` before each of its lines.
struct Commented<'t>(fmt::Arguments<'t>);

impl fmt::Display for Commented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::write(
            &mut Indent {
                out: f,
                start: true,
            },
            self.0,
        )
    }
}

struct Indent<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    start: bool,
}

impl fmt::Write for Indent<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            if self.start {
                self.out.write_str("  # ")?;
            }
            self.out.write_str(line)?;
            self.start = line.ends_with('\n');
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::{String, ToString};

    impl Sink for String {
        fn line(&mut self, line: fmt::Arguments<'_>) {
            self.push_str(&line.to_string());
            self.push('\n');
        }
    }

    #[test]
    fn output_is_as_the_specification_has_it() {
        let mut out = String::new();
        let mut top = Ktap::begin(&mut out, 2);
        let mut group = top.subtest("alpha", 3);
        group.result("first", Verdict::Ok);
        note(group.top.sink, format_args!("why\nbecause {}", 5));
        group.result("sec#ond", Verdict::NotOk);
        group.result("third", Verdict::Skip("one CPU"));
        group.end();
        let mut group = top.subtest("beta", 1);
        group.result("only", Verdict::Skip("no DIMM"));
        group.end();
        let expected = Summary {
            ok: 1,
            not_ok: 1,
            skipped: 2,
        };
        assert_eq!(top.summary(), expected);
        assert_eq!(
            out,
            "KTAP version 1\n\
             1..2\n\
             \x20 KTAP version 1\n\
             \x20 # Subtest: alpha\n\
             \x20 1..3\n\
             \x20 ok 1 first\n\
             \x20 # why\n\
             \x20 # because 5\n\
             \x20 not ok 2 second\n\
             \x20 ok 3 third # SKIP one CPU\n\
             not ok 1 alpha\n\
             \x20 KTAP version 1\n\
             \x20 # Subtest: beta\n\
             \x20 1..1\n\
             \x20 ok 1 only # SKIP no DIMM\n\
             ok 2 beta\n"
        );
    }
}
