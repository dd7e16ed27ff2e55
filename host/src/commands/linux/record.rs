//! Keeps the run of a kernel as text, and reads it again: the facts of the kernel, and what the
//! module told at the end of each play.

use tidemark_wire::Hazard;

use super::plays::{Pinned, Play};
use super::protocol::Steps;
use super::ready::Facts;
use super::state;

/// The first line, with the version of the layout.
const HEAD: &str = "tidemark lab linux, layout 1";

/// The run of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The command that repeats it.
    pub command: String,
    pub facts: Facts,
    pub plays: Vec<Play>,
}

impl Record {
    /// Returns the steps of the protocol that the kernel has.
    pub fn steps(&self) -> Steps {
        self.facts.steps()
    }

    /// Writes the record as text.
    pub fn text(&self) -> String {
        let facts = serde_json::to_string(&self.facts).unwrap_or_default();
        let mut text = format!("{HEAD}\ncommand {}\nfacts {facts}\n", self.command);
        for play in &self.plays {
            text.push_str(&format!("play {}\n{}\n", play.hazard.name(), play.text));
            if let Some(pinned) = play.pinned {
                let Pinned {
                    while_held,
                    seconds,
                    after_ms,
                } = pinned;
                let after = after_ms.map_or("never".to_owned(), |ms| ms.to_string());
                text.push_str(&format!("pinned {while_held} {seconds} {after}\n"));
            }
        }
        text
    }
}

/// Reads a record.
///
/// # Errors
/// It does not have the form; the error says where.
pub fn parse(text: &str) -> Result<Record, String> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    if lines.next() != Some(HEAD) {
        return Err(format!("the record does not begin with `{HEAD}`"));
    }
    let mut field = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name));
        line.map(str::to_owned)
            .ok_or(format!("the record lacks its line `{name}…`"))
    };
    let command = field("command ")?;
    let facts = serde_json::from_str(&field("facts ")?)
        .map_err(|error| format!("the facts of the record: {error}"))?;
    let rest: Vec<&str> = lines.collect();
    let mut plays = Vec::new();
    for piece in rest
        .join("\n")
        .split("play ")
        .filter(|piece| !piece.trim().is_empty())
    {
        plays.push(play(piece)?);
    }
    Ok(Record {
        command,
        facts,
        plays,
    })
}

fn play(piece: &str) -> Result<Play, String> {
    let (name, rest) = piece.split_once('\n').unwrap_or((piece, ""));
    let hazard = Hazard::ALL
        .into_iter()
        .find(|known| known.name() == name)
        .ok_or(format!("the record plays the unknown hazard {name}"))?;
    let told: Vec<&str> = rest
        .lines()
        .filter(|line| !line.starts_with("pinned "))
        .collect();
    let pinned = rest.lines().find_map(|line| line.strip_prefix("pinned "));
    let text = told.join("\n").trim().to_owned();
    Ok(Play {
        hazard,
        state: state::parse(&text)?,
        text,
        pinned: pinned.map(read_pinned).transpose()?,
    })
}

fn read_pinned(line: &str) -> Result<Pinned, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let pinned = || {
        Some(Pinned {
            while_held: words.first()?.parse().ok()?,
            seconds: words.get(1)?.parse().ok()?,
            after_ms: match *words.get(2)? {
                "never" => None,
                number => Some(number.parse().ok()?),
            },
        })
    };
    pinned().ok_or(format!("the record's line `pinned {line}` does not fit"))
}

/// Names the runs that are checked in by their kernels, and reads their files.
macro_rules! kept {
    ($($release:literal),* $(,)?) => {
        &[$(include_str!(concat!("../../../linux/runs/", $release, ".txt"))),*]
    };
}

/// The runs that are checked in, oldest kernel first.
const KEPT: &[&str] = kept![
    "5.10.0-32-amd64",
    "5.10.0-46-amd64",
    "6.1.0-56-amd64",
    "6.12.118+deb13-amd64",
    "7.2.13+deb14-amd64",
];

/// Reads every run that is checked in.
///
/// # Errors
/// One does not have the form.
pub fn kept() -> Result<Vec<Record>, String> {
    KEPT.iter().map(|text| parse(text)).collect()
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
