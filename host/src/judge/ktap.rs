//! Reads the self-tests' KTAP from the serial log. It is strict: a test that stops short has
//! failed.
//!
//! Lines of other kinds may stand in between; they are the kernel's log.

/// The result of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    NotOk,
    /// It was skipped, for this reason.
    Skipped(String),
    /// It failed, as expected.
    ExpectedFailure,
}

/// One test without subtests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// The names from the outermost subtest inwards, joined by `/`.
    pub name: String,
    pub outcome: Outcome,
    /// The diagnostic lines before the result.
    pub diagnostics: Vec<String>,
}

/// The results in a log's KTAP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    pub tests: Vec<Test>,
    /// The places where the log breaks KTAP's rules.
    pub violations: Vec<String>,
}

/// A level of nesting: the top, or a subtest in progress.
#[derive(Debug, Default)]
struct Level {
    name: Option<String>,
    plan: Option<usize>,
    results: usize,
    failed: usize,
    diagnostics: Vec<String>,
}

/// A parser that takes one line after the other.
#[derive(Debug, Default)]
pub struct Parser {
    levels: Vec<Level>,
    /// A name from `# Subtest:` for the level that begins next, with its depth.
    announced: Option<(usize, String)>,
    /// Levels that have fulfilled their plan, and wait for the parent's line: (depth, the level).
    closed: Option<(usize, Level)>,
    done: Results,
}

impl Parser {
    /// Takes one line of the log.
    pub fn line(&mut self, line: &str) {
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        if !is_ktap(text) {
            return;
        }
        if !indent.is_multiple_of(2) {
            return self.violation(format!("indented by {indent} spaces: {line}"));
        }
        let depth = indent / 2;
        if text.starts_with("KTAP version ") {
            return self.begin(depth, text);
        }
        if let Some(name) = text.strip_prefix("# Subtest: ") {
            if depth + 1 == self.levels.len() && self.levels[depth].plan.is_none() {
                self.levels[depth].name = Some(name.to_owned());
            } else {
                self.announced = Some((depth, name.to_owned()));
            }
            return;
        }
        if depth >= self.levels.len() {
            if !self.levels.is_empty() && !text.starts_with('#') {
                self.violation(format!("before its version line: {line}"));
            }
            return;
        }
        self.close_above(depth);
        if let Some(words) = text.strip_prefix("# ") {
            self.levels[depth].diagnostics.push(words.to_owned());
        } else if let Some(count) = text.strip_prefix("1..") {
            self.plan(depth, count);
        } else {
            self.result(depth, text);
        }
    }

    /// Returns the results. A log that stops short has violations.
    pub fn finish(mut self) -> Results {
        self.close_above(0);
        match self.levels.pop() {
            None => self.violation("no KTAP version line".to_owned()),
            Some(top) => match top.plan {
                None => self.violation("no plan".to_owned()),
                Some(plan) if plan != top.results => self.violation(format!(
                    "the log stops short: {} of {plan} results",
                    top.results
                )),
                Some(_) => {}
            },
        }
        self.done
    }

    fn begin(&mut self, depth: usize, text: &str) {
        if text != "KTAP version 1" {
            self.violation(format!("unknown version: {text}"));
        }
        if depth < self.levels.len() {
            self.close_above(depth);
            if depth < self.levels.len() {
                return self.violation(format!("a second version line at depth {depth}"));
            }
        }
        if depth > self.levels.len() {
            return self.violation(format!("a level begins at depth {depth} without a parent"));
        }
        let announced = self.announced.take();
        self.levels.push(Level {
            name: announced.filter(|(at, _)| *at == depth).map(|(_, n)| n),
            ..Level::default()
        });
    }

    /// Ends the levels below `depth`, whose parent's result comes next.
    fn close_above(&mut self, depth: usize) {
        while self.levels.len() > depth + 1 {
            let at = self.levels.len() - 1;
            let Some(level) = self.levels.pop() else {
                return;
            };
            if level.plan != Some(level.results) {
                self.violation(format!(
                    "{} stops short: {} results, plan {:?}",
                    level.name.as_deref().unwrap_or("a subtest"),
                    level.results,
                    level.plan
                ));
            }
            self.closed = Some((at, level));
        }
    }

    fn plan(&mut self, depth: usize, count: &str) {
        match count.split(' ').next().unwrap_or("").parse() {
            Err(_) => self.violation(format!("a plan without a number: 1..{count}")),
            Ok(_) if self.levels[depth].plan.is_some() => {
                self.violation("a second plan".to_owned());
            }
            Ok(n) => self.levels[depth].plan = Some(n),
        }
    }

    fn result(&mut self, depth: usize, text: &str) {
        let (passed, rest) = match text.strip_prefix("not ok ") {
            Some(rest) => (false, rest),
            None => (true, text.strip_prefix("ok ").unwrap_or("")),
        };
        let (body, directive) = match rest.split_once(" # ") {
            Some((body, directive)) => (body, directive),
            None => (rest, ""),
        };
        let (number, name) = body.split_once(' ').unwrap_or((body, ""));
        let name = name.trim_start_matches("- ").trim();
        let level = &mut self.levels[depth];
        level.results += 1;
        let expected = level.results;
        let diagnostics = std::mem::take(&mut level.diagnostics);
        if level.plan.is_none() {
            self.violation(format!("a result before the plan: {text}"));
        }
        if number.parse() != Ok(expected) {
            self.violation(format!("result {expected} is numbered {number}: {text}"));
        }
        let skipped = directive.strip_prefix("SKIP");
        let outcome = match (passed, skipped) {
            (true, Some(why)) => Outcome::Skipped(why.trim().to_owned()),
            (true, None) if directive.starts_with("XFAIL") => Outcome::ExpectedFailure,
            (true, None) => Outcome::Ok,
            (false, _) => Outcome::NotOk,
        };
        if outcome == Outcome::NotOk {
            self.levels[depth].failed += 1;
        }
        let child = self.closed.take().filter(|(at, _)| *at == depth + 1);
        match child {
            Some((_, child)) => {
                if child.name.as_deref().is_some_and(|n| n != name) {
                    self.violation(format!(
                        "the result of subtest {:?} is named {name}",
                        child.name
                    ));
                }
                let agrees = (child.failed == 0) == passed;
                if !agrees {
                    self.violation(format!(
                        "{name} contradicts its {} failed subtests",
                        child.failed
                    ));
                }
            }
            None => self.done.tests.push(Test {
                name: self.full_name(depth, name),
                outcome,
                diagnostics,
            }),
        }
    }

    fn full_name(&self, depth: usize, name: &str) -> String {
        let outer = self.levels[..=depth].iter();
        let mut names: Vec<&str> = outer.filter_map(|l| l.name.as_deref()).collect();
        names.push(name);
        names.join("/")
    }

    fn violation(&mut self, words: String) {
        self.done.violations.push(words);
    }
}

/// Returns whether a line without its indentation is one of KTAP's.
fn is_ktap(text: &str) -> bool {
    let number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    text.starts_with("KTAP version ")
        || text.starts_with("# ")
        || text.strip_prefix("1..").is_some_and(number)
        || text.strip_prefix("ok ").is_some_and(number)
        || text.strip_prefix("not ok ").is_some_and(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[    0.100000] cpu0: booting
KTAP version 1
1..3
  KTAP version 1
  # Subtest: zones
  1..2
  ok 1 marks
[    0.200000] cpu1: a line of the log
  # took 3 ms
  ok 2 reserves # SKIP no NORMAL zone
ok 1 zones
# expected 2, found 3
not ok 2 pcp
ok 3 nmi";

    fn parsed(text: &str) -> Results {
        let mut parser = Parser::default();
        text.lines().for_each(|line| parser.line(line));
        parser.finish()
    }

    #[test]
    fn results_are_read_out_of_the_log() {
        let results = parsed(GOOD);
        assert_eq!(results.violations, [""; 0]);
        let seen: Vec<(&str, &Outcome)> = results
            .tests
            .iter()
            .map(|test| (test.name.as_str(), &test.outcome))
            .collect();
        assert_eq!(
            seen,
            [
                ("zones/marks", &Outcome::Ok),
                (
                    "zones/reserves",
                    &Outcome::Skipped("no NORMAL zone".to_owned())
                ),
                ("pcp", &Outcome::NotOk),
                ("nmi", &Outcome::Ok),
            ]
        );
        assert_eq!(results.tests[2].diagnostics, ["expected 2, found 3"]);
    }

    #[test]
    fn a_log_cut_anywhere_is_a_violation() {
        let lines: Vec<&str> = GOOD.lines().collect();
        for cut in 0..lines.len() {
            let results = parsed(&lines[..cut].join("\n"));
            assert!(!results.violations.is_empty(), "cut at {cut}");
        }
    }

    #[test]
    fn broken_rules_are_named() {
        for (text, words) in [
            ("KTAP version 2\n1..0", "unknown version"),
            ("KTAP version 1\n1..1\nok 2 a", "numbered 2"),
            ("KTAP version 1\n1..1\nok 1 a\nok 2 b", "2 of 1 results"),
            ("KTAP version 1\nok 1 a\n1..1", "before the plan"),
            ("KTAP version 1\n1..1\n1..1\nok 1 a", "second plan"),
            (
                "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 b\nok 1 a",
                "contradicts",
            ),
            (
                "KTAP version 1\n1..1\n  KTAP version 1\n  1..2\n  ok 1 b\nok 1 a",
                "stops short",
            ),
            ("KTAP version 1\n1..1\n  ok 1 b\nok 1 a", "version line"),
            (
                "KTAP version 1\n1..0\nKTAP version 1\n1..0",
                "second version",
            ),
        ] {
            let results = parsed(text);
            assert!(
                results.violations.iter().any(|v| v.contains(words)),
                "{text}: {results:?}"
            );
        }
    }

    #[test]
    fn a_failed_test_with_a_directive_has_failed() {
        let results = parsed("KTAP version 1\n1..2\nnot ok 1 a # TIMEOUT\nnot ok 2 b # SKIP no");
        assert!(results.violations.is_empty());
        assert!(results.tests.iter().all(|t| t.outcome == Outcome::NotOk));
    }
}
