//! Finds out, without building or booting, whether any test can have a name that contains what the
//! user typed.

use std::fs;
use std::io;
use std::path::Path;

use crate::guest::build;

/// The folders of the workspace that have sources.
const FOLDERS: [&str; 3] = ["boot", "host", "kernel"];

/// Returns whether a test's name may contain the pattern. Names are put together from words of the
/// sources and from paths. They are joined at signs that are in no word, so each word of the
/// pattern must be in a source or in a path. "No" is certain, "yes" is not.
///
/// # Errors
/// The sources cannot be read.
pub fn may_contain(pattern: &str) -> io::Result<bool> {
    let mut missing = words(pattern);
    for folder in FOLDERS {
        strike_out(&build::workspace().join(folder), &mut missing)?;
    }
    Ok(missing.is_empty())
}

/// Returns the words of a pattern, in lower case. It leaves out numbers, because those of
/// documentation tests' lines are in no source.
fn words(pattern: &str) -> Vec<String> {
    pattern
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.contains(char::is_alphabetic))
        .map(str::to_lowercase)
        .collect()
}

/// Removes the words that are in a source below the folder.
fn strike_out(folder: &Path, missing: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if missing.is_empty() {
            break;
        }
        if path.is_dir() {
            strike_out(&path, missing)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?.to_lowercase();
            let path = path.to_string_lossy().to_lowercase();
            missing.retain(|word| !text.contains(word) && !path.contains(word));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_of_every_kind_may_exist() {
        for pattern in [
            "names_of_tests_of_every",
            "names::tests::names_of",
            "zonelist",
            "storm/",
            "plant/lost-frame-in-storm",
            "demonstration/seqlock-irqsave-no-nmi",
            "lab/seqlock-H2",
            "other_kernel",
            "stress/plant-lost-frame",
            "kernel/frames/src/lib.rs - (line 23)",
            "",
        ] {
            assert!(may_contain(pattern).unwrap(), "{pattern}");
        }
    }

    #[test]
    fn a_word_that_is_in_no_source_is_in_no_name() {
        // The typo is put together here, or it would be in this source.
        let typo = ["zonel", "itsts"].concat();
        for pattern in [typo.clone(), format!("storm/{typo}")] {
            assert!(!may_contain(&pattern).unwrap(), "{pattern}");
        }
    }
}
