//! Names zonelist protocols by releases of Linux: `linux-6.1.192` is the protocol of Linux 6.1.192.
//!
//! The steps of the stable series are read from their announcements and from `mm/page_alloc.c`:
//!
//! | Linux commit | in Linux | in stable series from |
//! |---|---|---|
//! | 3d36424b3b58, the seqlock | 6.0 | 5.10.147, 5.15.72 |
//! | 1007843a9190, interrupts off | 6.3 | 5.10.180, 5.15.109, 6.1.26, 6.2.13 |
//! | a2ebb5157582, `irqsave` | 6.6 | none |
//! | 41b43b6c6e30, the annotation's order | 6.6 | 5.10.198, 5.15.134, 6.1.56, 6.5.6 |
//! | e05741fb10c3, the check at `retry` | 6.15 | 5.10.238, 5.15.185, 6.1.141, 6.6.93, 6.12.31, 6.14.9 |
//!
//! Series that were not looked at are left out, but for those between two that are alike: 6.16 to
//! 6.18 are taken to be like 6.15, and 7.0 and 7.1 like 7.2.

use std::fmt;

use tidemark_frames::Variant;

use Variant::{
    None as Unprotected, Seqlock, SeqlockAnnotated, SeqlockIrqoff, SeqlockIrqoffRecheck,
    SeqlockRecheck,
};

/// What stands before a release where a protocol's name is wanted.
pub const PREFIX: &str = "linux-";

/// The protocol of a series from a patch level on.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    patch: u16,
    variant: Variant,
    /// What the release does otherwise than the variant, in a clause.
    differs: Option<&'static str>,
}

/// Series in a row that have the same steps.
#[derive(Clone, Copy)]
struct Series {
    first: (u16, u16),
    last: (u16, u16),
    /// By their patch levels, from 0 on.
    steps: &'static [Step],
}

const fn from(patch: u16, variant: Variant) -> Step {
    Step {
        patch,
        variant,
        differs: None,
    }
}

const fn but(patch: u16, variant: Variant, differs: &'static str) -> Step {
    Step {
        patch,
        variant,
        differs: Some(differs),
    }
}

/// No cell shows it, because the console is deferred around the lock.
const ANNOTATED: &str = "but annotated before the increment";

/// A check there comes one walk and one reclaim later than at `retry`. It ends H8 all the same:
/// each further round that the test for progress grants comes behind such a check.
const BEFORE_PROGRESS: &str = "but it checks just before the test for progress, not at retry";

/// The table. A patch level beyond the last step is taken to be like it.
const TABLE: &[Series] = &[
    Series {
        first: (5, 10),
        last: (5, 10),
        steps: &[
            from(0, Unprotected),
            from(147, Seqlock),
            from(180, SeqlockIrqoff),
            but(198, SeqlockIrqoff, ANNOTATED),
            from(238, SeqlockIrqoffRecheck),
        ],
    },
    Series {
        first: (5, 15),
        last: (5, 15),
        steps: &[
            from(0, Unprotected),
            from(72, Seqlock),
            from(109, SeqlockIrqoff),
            but(134, SeqlockIrqoff, ANNOTATED),
            from(185, SeqlockIrqoffRecheck),
        ],
    },
    Series {
        first: (6, 0),
        last: (6, 0),
        steps: &[from(0, Seqlock)],
    },
    Series {
        first: (6, 1),
        last: (6, 1),
        steps: &[
            from(0, Seqlock),
            from(26, SeqlockIrqoff),
            but(56, SeqlockIrqoff, ANNOTATED),
            from(141, SeqlockIrqoffRecheck),
        ],
    },
    Series {
        first: (6, 2),
        last: (6, 2),
        steps: &[from(0, Seqlock), from(13, SeqlockIrqoff)],
    },
    Series {
        first: (6, 3),
        last: (6, 4),
        steps: &[from(0, SeqlockIrqoff)],
    },
    Series {
        first: (6, 5),
        last: (6, 5),
        steps: &[from(0, SeqlockIrqoff), but(6, SeqlockIrqoff, ANNOTATED)],
    },
    Series {
        first: (6, 6),
        last: (6, 6),
        steps: &[from(0, SeqlockAnnotated), from(93, SeqlockRecheck)],
    },
    Series {
        first: (6, 7),
        last: (6, 11),
        steps: &[from(0, SeqlockAnnotated)],
    },
    Series {
        first: (6, 12),
        last: (6, 12),
        steps: &[from(0, SeqlockAnnotated), from(31, SeqlockRecheck)],
    },
    Series {
        first: (6, 13),
        last: (6, 13),
        steps: &[from(0, SeqlockAnnotated)],
    },
    Series {
        first: (6, 14),
        last: (6, 14),
        steps: &[from(0, SeqlockAnnotated), from(9, SeqlockRecheck)],
    },
    Series {
        first: (6, 15),
        last: (6, 19),
        steps: &[from(0, SeqlockRecheck)],
    },
    Series {
        first: (7, 0),
        last: (7, 2),
        steps: &[but(0, SeqlockRecheck, BEFORE_PROGRESS)],
    },
];

/// A release of Linux whose protocol is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    series: (u16, u16),
    patch: u16,
    step: &'static Step,
}

/// Returns the release of a number such as `6.1.192` or `6.12`; nothing if it is no such number, or
/// the table has no series for it.
///
/// A distribution's suffix (`6.1.0-37-amd64`) is refused, because its number is another one.
pub fn release(text: &str) -> Option<Release> {
    let mut numbers = text.split('.').map(|part| {
        let all_digits = part.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| part.parse().ok()).flatten()
    });
    let series = (numbers.next()??, numbers.next()??);
    let patch = numbers.next().unwrap_or(Some(0))?;
    if numbers.next().is_some() {
        return None;
    }
    let mut table = TABLE.iter();
    let known = table.find(|known| (known.first..=known.last).contains(&series))?;
    let mut steps = known.steps.iter().rev();
    let step = steps.find(|step| step.patch <= patch)?;
    Some(Release {
        series,
        patch,
        step,
    })
}

impl Release {
    /// Returns the variant that stands for it.
    pub fn variant(self) -> Variant {
        self.step.variant
    }

    /// Returns what it does otherwise than the variant, in a clause.
    pub fn differs(self) -> Option<&'static str> {
        self.step.differs
    }
}

impl fmt::Display for Release {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.series;
        write!(out, "{major}.{minor}")?;
        match self.patch {
            0 => Ok(()),
            patch => write!(out, ".{patch}"),
        }
    }
}

impl Series {
    /// Returns its number, or its first and its last.
    fn name(&self) -> String {
        let dotted = |(major, minor): (u16, u16)| format!("{major}.{minor}");
        match self.first == self.last {
            true => dotted(self.first),
            false => format!("{} to {}", dotted(self.first), dotted(self.last)),
        }
    }
}

/// Returns the series that the table has, on one line.
fn known() -> String {
    let follows = |one: &Series, next: &Series| {
        let (major, minor) = one.last;
        next.first == (major, minor + 1)
    };
    let names = TABLE.chunk_by(follows).map(|chunk| {
        let whole = Series {
            last: chunk[chunk.len() - 1].last,
            ..chunk[0]
        };
        whole.name()
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Returns the table: the series, and their protocols with the patch levels where each begins.
pub fn listed() -> impl Iterator<Item = (String, String)> {
    let of = |step: &Step| {
        let from = match step.patch {
            0 => String::new(),
            patch => format!("from .{patch} "),
        };
        let differs = step.differs.map(|differs| format!(", {differs}"));
        format!(
            "{from}{}{}",
            step.variant.name(),
            differs.unwrap_or_default()
        )
    };
    TABLE.iter().map(move |series| {
        let steps: Vec<String> = series.steps.iter().map(of).collect();
        (series.name(), steps.join("; "))
    })
}

/// A protocol as it was asked for: by its own name, or by a release of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zonelist {
    pub variant: Variant,
    pub release: Option<Release>,
}

impl Zonelist {
    /// Returns the protocol by its own name.
    pub const fn of(variant: Variant) -> Self {
        Self {
            variant,
            release: None,
        }
    }

    /// Reads a protocol's name, or a release behind [`PREFIX`].
    ///
    /// # Errors
    /// One line that says which names, or which series, there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(number) = text.strip_prefix(PREFIX) else {
            let names = Variant::NAMES.join(", ");
            let wanted = || format!("one of {names} or {PREFIX}X, a release, is wanted");
            return Variant::from_name(text).map(Self::of).ok_or_else(wanted);
        };
        let release = release(number).ok_or_else(|| {
            let known = known();
            format!("of Linux {known} are known, and a release is written {PREFIX}6.1.192")
        })?;
        Ok(Self {
            variant: release.variant(),
            release: Some(release),
        })
    }

    /// Returns the protocol's name, and the release if one was asked for.
    pub fn says(self) -> String {
        let name = self.variant.name();
        match self.release {
            Some(release) => format!("{name}, as Linux {release} has it"),
            None => name.to_owned(),
        }
    }

    /// Returns the line that says which protocol stands for the release, and what the release does
    /// otherwise, if a release was asked for.
    pub fn alias(self) -> Option<String> {
        let differs = self.release?.differs();
        let differs = differs.map(|differs| format!(", {differs}"));
        Some(self.says() + &differs.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_the_protocol_of_its_patch_level() {
        for (text, variant) in [
            ("5.10", Unprotected),
            ("5.10.146", Unprotected),
            ("5.10.147", Seqlock),
            ("5.10.179", Seqlock),
            ("5.10.223", SeqlockIrqoff),
            ("5.10.237", SeqlockIrqoff),
            ("5.10.262", SeqlockIrqoffRecheck),
            ("5.15.184", SeqlockIrqoff),
            ("6.1.192", SeqlockIrqoffRecheck),
            ("6.4.3", SeqlockIrqoff),
            ("6.6.92", SeqlockAnnotated),
            ("6.6.93", SeqlockRecheck),
            ("6.8", SeqlockAnnotated),
            ("6.12.30", SeqlockAnnotated),
            ("6.12.118", SeqlockRecheck),
            ("6.19", SeqlockRecheck),
            ("7.2.13", SeqlockRecheck),
        ] {
            let found = release(text).unwrap();
            assert_eq!(found.variant(), variant, "{text}");
            assert_eq!(found.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_known_release_is_none() {
        for text in [
            "",
            "6",
            "6.",
            "6.1.",
            "6.1.1.1",
            "6.1.x",
            "+6.1",
            "6.1.0-37-amd64",
            "5.4.290",
            "6.20",
            "7.3",
            "4.19.325",
            "v6.1",
            "99999.1",
        ] {
            assert_eq!(release(text), None, "{text}");
        }
    }

    #[test]
    fn series_and_steps_are_in_order_and_begin_at_the_first_release() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].last < pair[1].first);
        }
        for series in TABLE {
            assert!(series.first <= series.last && series.first.0 == series.last.0);
            assert_eq!(series.steps[0].patch, 0);
            assert!(
                series
                    .steps
                    .is_sorted_by(|one, next| one.patch < next.patch)
            );
        }
    }

    #[test]
    fn a_release_is_named_beside_its_protocol() {
        let of = |text| Zonelist::parse(text).unwrap();
        let line = "seqlock-irqoff-recheck, as Linux 6.1.192 has it";
        assert_eq!(of("linux-6.1.192").says(), line);
        assert_eq!(of("seed").says(), "seed");
        assert_eq!(of("seed").alias(), None);
        let later = of("linux-7.2.13").alias().unwrap();
        assert!(later.ends_with("before the test for progress, not at retry"));
        let line = "seqlock-recheck, as Linux 7.2.13 has it";
        assert_eq!(of("linux-7.2.13").says(), line);
    }

    #[test]
    fn an_unknown_release_is_told_which_series_there_are() {
        let error = Zonelist::parse("linux-5.4.290").unwrap_err();
        assert!(error.contains("5.10, 5.15, 6.0 to 6.19, 7.0 to 7.2 are known"));
        assert_eq!(error.lines().count(), 1);
        let error = Zonelist::parse("linux").unwrap_err();
        assert!(error.contains("seqlock-irqoff-recheck, ") && error.contains("linux-X"));
    }
}
