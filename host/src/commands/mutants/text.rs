//! Finding a piece of a source whatever its indentation.
//!
//! White space of any length matches white space of any length, and lines that are comments count
//! as white space, in the source and in what is looked for.

/// A place in a source, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    begin: usize,
    end: usize,
}

impl Place {
    /// The source with this instead of what is there.
    pub fn replace(self, source: &str, new: &str) -> String {
        [&source[..self.begin], new.trim(), &source[self.end..]].concat()
    }

    /// Whether this one begins at the end of the other one or behind it.
    pub fn begins_behind(self, other: Self) -> bool {
        self.begin >= other.end
    }
}

/// The signs that count, each with its place: words with one space between them.
fn signs(text: &str) -> Vec<(char, usize)> {
    let mut signs: Vec<(char, usize)> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let is_comment = line.trim_start().starts_with("//");
        for (offset, sign) in line.char_indices() {
            let sign = if is_comment || sign.is_whitespace() {
                ' '
            } else {
                sign
            };
            let doubles = sign == ' ' && signs.last().is_none_or(|&(last, _)| last == ' ');
            if !doubles {
                signs.push((sign, at + offset));
            }
        }
        at += line.len();
    }
    if signs.last().is_some_and(|&(last, _)| last == ' ') {
        signs.pop();
    }
    signs
}

/// A text with its white space and comments made one space each.
pub fn squeezed(text: &str) -> String {
    signs(text).into_iter().map(|(sign, _)| sign).collect()
}

/// Where a piece is in a source; overlapping places as well.
pub fn places(source: &str, piece: &str) -> Vec<Place> {
    let wanted: Vec<char> = squeezed(piece).chars().collect();
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
        assert_eq!(squeezed(&changed), "fn f() { two(); one(); one(); // too }");
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
