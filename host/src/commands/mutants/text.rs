//! Finds a piece of a source however it is laid out.
//!
//! White space of any length counts only between two words. A comma before a closing bracket does
//! not count. Those are the things that the formatter changes. Lines that are comments count as
//! white space.

/// A place in a source, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    begin: usize,
    end: usize,
}

impl Place {
    /// Returns the source with `new` at this place.
    pub fn replace(self, source: &str, new: &str) -> String {
        [&source[..self.begin], new.trim(), &source[self.end..]].concat()
    }

    /// Returns whether this place begins at the end of the other one or after it.
    pub fn begins_behind(self, other: Self) -> bool {
        self.begin >= other.end
    }
}

/// Returns the signs that count, each with its place: those that no formatter changes. White space
/// counts only between two words, and a comma before a closing bracket does not count.
fn signs(text: &str) -> Vec<(char, usize)> {
    let is_word = |sign: char| sign.is_alphanumeric() || sign == '_';
    let mut signs: Vec<(char, usize)> = Vec::new();
    let mut at = 0;
    let mut is_apart = false;
    for line in text.split_inclusive('\n') {
        let is_comment = line.trim_start().starts_with("//");
        for (offset, sign) in line.char_indices() {
            if is_comment || sign.is_whitespace() {
                is_apart = true;
                continue;
            }
            if signs.last().is_some_and(|&(last, _)| last == ',') && ")]}".contains(sign) {
                signs.pop();
            }
            let follows_word = signs.last().is_some_and(|&(last, _)| is_word(last));
            if is_apart && follows_word && is_word(sign) {
                signs.push((' ', at + offset));
            }
            signs.push((sign, at + offset));
            is_apart = false;
        }
        at += line.len();
    }
    signs
}

/// Returns a text without the white space, comments and commas that do not count.
pub fn squeezed(text: &str) -> String {
    signs(text).into_iter().map(|(sign, _)| sign).collect()
}

/// Returns the places of a piece in a source, overlapping ones as well.
pub fn places(source: &str, piece: &str) -> Vec<Place> {
    let mut wanted: Vec<char> = squeezed(piece).chars().collect();
    let has_comma = wanted.pop_if(|last| *last == ',').is_some();
    let there = signs(source);
    if wanted.is_empty() {
        return Vec::new();
    }
    let is_here = |window: &&[(char, usize)]| {
        let here = window.iter().map(|&(sign, _)| sign);
        here.eq(wanted.iter().copied())
    };
    let place = |window: &[(char, usize)]| {
        let begin = window.first().map_or(0, |&(_, at)| at);
        let end = window.last().map_or(0, |&(sign, at)| at + sign.len_utf8());
        // If the last sign of the piece is a comma, a comma in the source belongs to the place.
        let comma = source[end..].starts_with(',');
        let end = end + usize::from(has_comma && comma);
        Place { begin, end }
    };
    let windows = there.windows(wanted.len());
    windows.filter(is_here).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "fn f() {\n    // A comment.\n    one();\n    two();\n\n    one(); // too\n}\n";

    #[test]
    fn indentation_and_lines_of_comments_do_not_matter() {
        let [place] = places(SOURCE, "\n// Another one.\none();\n  two();\n")[..] else {
            panic!("not found once");
        };
        let changed = place.replace(SOURCE, "two();\none();\n");
        assert_eq!(squeezed(&changed), "fn f(){two();one();one();//too}");
    }

    #[test]
    fn what_the_formatter_changes_does_not_matter() {
        let broken = "let a = g(\n    one,\n    two,\n)\n.three();";
        let [place] = places(broken, "g(one, two).three()")[..] else {
            panic!("not found once");
        };
        assert_eq!(place.replace(broken, "b"), "let a = b;");
        assert_eq!(places("g(one,\n)", "g(one)").len(), 1);
        assert_eq!(places("let ab", "leta b").len(), 0, "words are words");
        assert_eq!(places("a  b", "a b").len(), 1);
    }

    #[test]
    fn a_piece_may_be_a_part_of_a_line_and_is_found_wherever_it_is() {
        assert_eq!(places(SOURCE, "one()").len(), 2);
        assert_eq!(places(SOURCE, "o(); one").len(), 1);
        assert_eq!(places(SOURCE, "three").len(), 0);
        assert_eq!(places(SOURCE, " \n").len(), 0);
        let [first, second] = places(SOURCE, "one()")[..] else {
            panic!("not found twice");
        };
        assert!(second.begins_behind(first) && !first.begins_behind(second));
    }
}
