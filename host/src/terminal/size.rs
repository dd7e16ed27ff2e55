//! Amounts of memory in whole MiB.

use std::fmt;

/// An amount of memory, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mib(pub u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1024 && self.0.is_multiple_of(1024) {
            write!(f, "{} GiB", self.0 / 1024)
        } else {
            write!(f, "{} MiB", self.0)
        }
    }
}

/// Reads a size such as `48M`, `3G`, `3GiB`, or `512` (MiB).
///
/// # Errors
/// The error is a sentence about what was expected.
pub fn parse(text: &str) -> Result<Mib, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (digits, unit) = text.split_at(digits.len());
    let scale = match unit.to_ascii_uppercase().as_str() {
        "" | "M" | "MB" | "MIB" => 1,
        "G" | "GB" | "GIB" => 1024,
        _ => return Err("a size such as 48M or 3G is wanted".to_owned()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .filter(|mib| *mib <= 1 << 20)
        .map(Mib)
        .ok_or_else(|| "a size such as 48M or 3G, of at most 1024G, is wanted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_mib_and_gib() {
        assert_eq!(parse("48M"), Ok(Mib(48)));
        assert_eq!(parse("3G"), Ok(Mib(3072)));
        assert_eq!(parse("3gib"), Ok(Mib(3072)));
        assert_eq!(parse("512"), Ok(Mib(512)));
        for wrong in [
            "",
            "G",
            "3T",
            "-1G",
            "1.5G",
            "99999999999999999999G",
            "2000G",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_prints_in_its_larger_unit_if_that_is_exact() {
        assert_eq!(Mib(3072).to_string(), "3 GiB");
        assert_eq!(Mib(1536).to_string(), "1536 MiB");
    }
}
