//! The expected skips of each machine: `kernel/expected-skips.txt`. Any other skip fails a run.

use anyhow::{Context, Result, bail};

use crate::guest::build::workspace;

/// The list of expected skips.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skips {
    /// The entries: (configuration or `*`, test name, with `*` for any ending).
    entries: Vec<(String, String)>,
}

impl Skips {
    /// Reads the checked-in list.
    ///
    /// # Errors
    /// The list is missing or has a malformed line.
    pub fn read() -> Result<Self> {
        let path = workspace().join("kernel/expected-skips.txt");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the list of expected skips is not at {}", path.display()))?;
        Self::parse(&text)
    }

    /// Reads lines of `CONFIGURATION TEST`; `#` begins a comment.
    ///
    /// # Errors
    /// A line does not have two words.
    pub fn parse(text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or("").trim();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                [configuration, test] => entries.push((configuration.into(), test.into())),
                _ => bail!("not `CONFIGURATION TEST` in the list of expected skips: {line}"),
            }
        }
        Ok(Skips { entries })
    }

    /// Returns whether this test may be skipped on this machine. On a machine of the user's own,
    /// any skip that is expected on some machine may occur.
    pub fn expects(&self, configuration: &str, test: &str) -> bool {
        self.entries.iter().any(|(machine, name)| {
            let here = machine == "*" || machine == configuration || configuration == "custom";
            here && match name.strip_suffix('*') {
                Some(start) => test.starts_with(start),
                None => test == name,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_expected_by_machine_and_name() {
        let skips = Skips::parse("# why\n1cpu-1node ipi/*\n* time/x2apic # QEMU 7.2\n").unwrap();
        assert!(skips.expects("1cpu-1node", "ipi/stop"));
        assert!(!skips.expects("4cpu-2node", "ipi/stop"));
        assert!(skips.expects("custom", "ipi/stop"));
        assert!(skips.expects("4cpu-2node", "time/x2apic"));
        assert!(!skips.expects("1cpu-1node", "time/x2apic_more"));
        assert!(Skips::parse("one\n").is_err());
    }
}
