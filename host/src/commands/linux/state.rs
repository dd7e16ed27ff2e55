//! Reads the state that the module tells: lines of a word and pairs of `key=value`.

use std::collections::BTreeMap;

/// The state of the request under test, and of the load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The kernel, as `uname -r` tells it.
    pub release: String,
    /// The highest zone index that the request may use.
    pub highest: i64,
    pub request: Request,
    /// The list when the request fell asleep.
    pub before: Vec<Entry>,
    /// The list when the request was let go.
    pub at_go: Vec<Entry>,
    /// The first walks, and the last. `Request::walks` counts all.
    pub walks: Vec<Walk>,
    /// The page that the request got.
    pub page: Option<Page>,
    pub load: Load,
}

/// The request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// It slept in its direct reclaim.
    pub asleep: bool,
    /// It was let go.
    pub go: bool,
    /// It returned.
    pub done: bool,
    /// Rounds of reclaim since it was let go.
    pub rounds_after: i64,
    /// Walks of the list in all.
    pub walks: i64,
    /// Walks since it was let go that found nothing where a walk from the first entry would have.
    pub stale: i64,
    /// Calls of the out-of-memory killer.
    pub oom: i64,
    /// Those of them that came although a walk from the first entry would have found a page.
    pub oom_fresh: i64,
    /// Microseconds from the letting go to the return.
    pub us: i64,
}

/// An entry of a zonelist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub zone: String,
    pub index: i64,
    pub node: i64,
    /// Free pages of the zone.
    pub free: i64,
}

/// A walk of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Its number, from 0.
    pub n: i64,
    /// It began after the request was let go.
    pub after: bool,
    /// The entry that it starts at, counted from 0, with what stands there.
    pub start: i64,
    pub zone: String,
    pub index: i64,
    /// A walk from the first entry would find a page.
    pub fresh: bool,
    /// The zone of the page that it found.
    pub got: Option<String>,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub zone: String,
    pub index: i64,
    pub node: i64,
    pub pfn: i64,
}

/// The threads of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub threads: i64,
    pub requests: i64,
    pub failed: i64,
    /// Pages of zones that the requests may not use.
    pub misplaced: i64,
}

/// The pairs of one line.
struct Pairs<'t> {
    line: &'t str,
    pairs: BTreeMap<&'t str, &'t str>,
}

impl<'t> Pairs<'t> {
    fn text(&self, key: &str) -> Result<&'t str, String> {
        let value = self.pairs.get(key).copied();
        value.ok_or_else(|| format!("the module's line `{}` has no {key}", self.line))
    }

    fn number(&self, key: &str) -> Result<i64, String> {
        let value = self.text(key)?;
        value
            .parse()
            .map_err(|_| format!("{key} of the module's line `{}` is no number", self.line))
    }

    fn flag(&self, key: &str) -> Result<bool, String> {
        Ok(self.number(key)? != 0)
    }
}

/// Reads the state.
///
/// # Errors
/// A line does not have the form; the error names it.
pub fn parse(text: &str) -> Result<State, String> {
    let mut state = State::default();
    let (mut has_kernel, mut has_request) = (false, false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let pairs = rest
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='));
        let pairs = Pairs {
            line,
            pairs: pairs.collect(),
        };
        match word {
            "kernel" => {
                has_kernel = true;
                state.release = pairs.text("release")?.to_owned();
                state.highest = pairs.number("highest")?;
            }
            "request" => {
                has_request = true;
                state.request = request(&pairs)?;
            }
            "entry" => match pairs.text("when")? {
                "before" => state.before.push(entry(&pairs)?),
                _ => state.at_go.push(entry(&pairs)?),
            },
            "walk" => state.walks.push(walk(&pairs)?),
            "page" => state.page = Some(page(&pairs)?),
            "load" => state.load = load(&pairs)?,
            _ => return Err(format!("the module's line `{line}` is unknown")),
        }
    }
    if has_kernel && has_request {
        Ok(state)
    } else {
        Err("the module's state is cut: it names no kernel or no request".to_owned())
    }
}

fn request(pairs: &Pairs<'_>) -> Result<Request, String> {
    Ok(Request {
        asleep: pairs.flag("asleep")?,
        go: pairs.flag("go")?,
        done: pairs.flag("done")?,
        rounds_after: pairs.number("rounds_after")?,
        walks: pairs.number("walks")?,
        stale: pairs.number("stale")?,
        oom: pairs.number("oom")?,
        oom_fresh: pairs.number("oom_fresh")?,
        us: pairs.number("us")?,
    })
}

fn entry(pairs: &Pairs<'_>) -> Result<Entry, String> {
    Ok(Entry {
        zone: pairs.text("zone")?.to_owned(),
        index: pairs.number("index")?,
        node: pairs.number("node")?,
        free: pairs.number("free")?,
    })
}

fn walk(pairs: &Pairs<'_>) -> Result<Walk, String> {
    let got = pairs.text("got")?;
    Ok(Walk {
        n: pairs.number("n")?,
        after: pairs.flag("after")?,
        start: pairs.number("start")?,
        zone: pairs.text("zone")?.to_owned(),
        index: pairs.number("index")?,
        fresh: pairs.flag("fresh")?,
        got: (got != "none").then(|| got.to_owned()),
    })
}

fn page(pairs: &Pairs<'_>) -> Result<Page, String> {
    Ok(Page {
        zone: pairs.text("zone")?.to_owned(),
        index: pairs.number("index")?,
        node: pairs.number("node")?,
        pfn: pairs.number("pfn")?,
    })
}

fn load(pairs: &Pairs<'_>) -> Result<Load, String> {
    Ok(Load {
        threads: pairs.number("threads")?,
        requests: pairs.number("requests")?,
        failed: pairs.number("failed")?,
        misplaced: pairs.number("misplaced")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "\
kernel release=6.1.0-56-amd64 highest=2
request asleep=1 go=1 done=1 rounds=1 rounds_after=0 walks=4 stale=0 oom=0 oom_fresh=0 us=3456
entry when=before at=0 zone=DMA32 index=1 node=0 free=53056
entry when=go at=0 zone=Movable index=3 node=0 free=32754
walk n=3 after=1 start=0 zone=Movable index=3 highest=2 fresh=1 got=Movable
page zone=Movable index=3 node=0 pfn=1049600
load threads=0 requests=0 failed=0 misplaced=0
";

    #[test]
    fn the_state_is_read() {
        let state = parse(STATE).unwrap();
        assert_eq!(
            (state.release.as_str(), state.highest),
            ("6.1.0-56-amd64", 2)
        );
        assert!(state.request.asleep && state.request.done);
        assert_eq!(state.before[0].zone, "DMA32");
        assert_eq!(state.at_go[0].index, 3);
        assert_eq!(state.walks[0].got.as_deref(), Some("Movable"));
        assert_eq!(state.page.unwrap().pfn, 1_049_600);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (text, words) in [
            (STATE.replace("highest=2\n", "\n"), "has no highest"),
            (
                STATE.replace("us=3456", "us=many"),
                "us of the module's line",
            ),
            (STATE.replace("entry when", "enter when"), "is unknown"),
            (
                STATE.replace(
                    "request asleep",
                    "load threads=0 requests=0 failed=0 misplaced=0\nload asleep",
                ),
                "has no threads",
            ),
            (String::new(), "is cut"),
        ] {
            let line = parse(&text).unwrap_err();
            assert!(line.contains(words), "{line}");
        }
    }
}
