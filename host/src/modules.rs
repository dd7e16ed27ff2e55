//! Holds the modules to their order: a folder uses only those below it, and there is no circle.
//!
//! The sources are read as text. Every path that begins with `crate` or `super` is a use; so is
//! every module that a `mod.rs` declares. A use is one between siblings: of the folder that both
//! modules are in, the two parts that they belong to. So neither files nor folders are in a circle.
//! Tests count as part of the module that they are about.
//!
//! Of the kernel's sources only the topmost modules are held to it: no circle between two of those.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The folders, lowest first.
const ORDER: [&str; 4] = ["terminal", "guest", "judge", "commands"];

/// The path of a module from the crate's root, which has the empty path.
type Module = Vec<String>;

/// The sources, by module.
type Sources = BTreeMap<Module, String>;

/// The uses: pairs of a module and one that it uses.
type Uses = BTreeSet<(Module, Module)>;

fn module(path: &str) -> Module {
    let path = path.trim_end_matches(".rs").trim_end_matches("_tests");
    let mut module: Module = path.split('/').map(str::to_owned).collect();
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "main" | "lib")
    ) {
        module.pop();
    }
    module
}

fn read(folder: &Path, below: &str, sources: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            read(&path, &format!("{below}{name}/"), sources);
        } else if name != "modules.rs" {
            let text = fs::read_to_string(&path).unwrap();
            add(sources, &format!("{below}{name}"), &text);
        }
    }
}

fn add(sources: &mut Sources, path: &str, text: &str) {
    let is_tests = path.ends_with("_tests.rs");
    // The meaning of `super` depends on it.
    let text = match is_tests {
        true => format!("mod tests {{\n{text}\n}}"),
        false => text.to_owned(),
    };
    sources
        .entry(module(path))
        .or_default()
        .push_str(&bare(&text));
}

/// Removes the comments of a source and the contents of its strings.
fn bare(text: &str) -> String {
    let mut bare = String::new();
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if let Some(end) = end_of_sign(rest) {
            end
        } else if sign == '"' {
            end_of_string(rest)
        } else {
            bare.push(sign);
            sign.len_utf8()
        };
        rest = &rest[end..];
    }
    bare
}

/// Returns the end of the character literal that begins here. A lifetime is none.
fn end_of_sign(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let mut signs = rest.char_indices();
    let (_, first) = signs.next()?;
    let (_, second) = signs.next()?;
    let from = match first {
        '\\' => 1 + second.len_utf8(),
        _ if second == '\'' => first.len_utf8(),
        _ => return None,
    };
    Some(1 + from + rest[from..].find('\'')? + 1)
}

fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        match sign {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Splits a source into words and signs.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end = if is_word(sign) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            sign.len_utf8()
        };
        if !sign.is_whitespace() {
            tokens.push(&rest[..end]);
        }
        rest = &rest[end..];
    }
    tokens
}

/// Lists the paths that a source names, from the crate's root.
fn paths(module: &Module, text: &str) -> Vec<Module> {
    let tokens = tokens(text);
    let (mut paths, mut here, mut depth, mut ends) = (Vec::new(), module.clone(), 0, Vec::new());
    for (at, &token) in tokens.iter().enumerate() {
        match token {
            "{" => {
                if at >= 2 && tokens[at - 2] == "mod" {
                    here.push(tokens[at - 1].to_owned());
                    ends.push(depth);
                }
                depth += 1;
            }
            "}" => {
                depth -= 1;
                if ends.last() == Some(&depth) {
                    ends.pop();
                    here.pop();
                }
            }
            "mod" if tokens.get(at + 2) == Some(&";") && tokens[at + 1] != "tests" => {
                let mut declared = here.clone();
                declared.push(tokens[at + 1].to_owned());
                paths.push(declared);
            }
            "crate" | "super" if begins_path(&tokens, at) => {
                follow(&tokens, at, here.clone(), &mut paths);
            }
            _ => {}
        }
    }
    paths
}

/// Returns whether the word is the first of a path, rather than one within it or a visibility.
fn begins_path(tokens: &[&str], at: usize) -> bool {
    tokens.get(at + 1) == Some(&"::") && (at == 0 || tokens[at - 1] != "::")
}

/// Adds the path, or the paths of a group, that begin here; returns where they end.
fn follow(tokens: &[&str], mut at: usize, mut path: Module, paths: &mut Vec<Module>) -> usize {
    loop {
        match tokens[at] {
            "crate" => path.clear(),
            "super" => drop(path.pop()),
            "self" => {}
            "{" => {
                at += 1;
                while tokens[at] != "}" {
                    at = match tokens[at] {
                        "," => at + 1,
                        _ => follow(tokens, at, path.clone(), paths),
                    };
                }
                return at + 1;
            }
            word => path.push(word.to_owned()),
        }
        if tokens.get(at + 1) != Some(&"::") {
            paths.push(path);
            // An `as` and its name belong to the path as well.
            return match tokens.get(at + 1) {
                Some(&"as") => at + 3,
                _ => at + 1,
            };
        }
        at += 2;
    }
}

/// Which module each exported macro is in: its path does not tell.
fn macros(sources: &Sources) -> BTreeMap<Module, Module> {
    let mut macros = BTreeMap::new();
    for (module, text) in sources {
        for part in tokens(text).windows(5) {
            if let ["macro_export", "]", "macro_rules", "!", name] = *part {
                macros.insert(vec![name.to_owned()], module.clone());
            }
        }
    }
    macros
}

fn uses(sources: &Sources) -> Uses {
    let (mut uses, macros) = (Uses::new(), macros(sources));
    for (module, text) in sources {
        for mut path in paths(module, text) {
            if let Some(place) = macros.get(&path) {
                path.clone_from(place);
            }
            while !sources.contains_key(&path) {
                path.pop();
            }
            if path != *module {
                uses.insert((module.clone(), path));
            }
        }
    }
    uses
}

/// Lists the uses that go against the folders' order.
fn against_the_order(uses: &Uses) -> Vec<String> {
    let rank = |module: &Module| {
        let folder = module.first();
        let known = folder.and_then(|folder| ORDER.iter().position(|known| known == folder));
        known.unwrap_or(ORDER.len())
    };
    let wrong = uses.iter().filter(|(from, to)| rank(from) < rank(to));
    wrong
        .map(|(from, to)| format!("{} uses {}", from.join("::"), to.join("::")))
        .collect()
}

/// Returns the part of a folder that a module belongs to. The folder's own file is called `mod`.
fn sibling(module: &Module, depth: usize) -> &str {
    module.get(depth).map_or("mod", String::as_str)
}

/// Lists the circles between siblings, a line for each that is in one.
fn circles(uses: &Uses) -> Vec<String> {
    // For each folder, the map says which sibling uses which.
    let mut folders: BTreeMap<&[String], BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for (from, to) in uses {
        let same = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        let siblings = folders.entry(&from[..same]).or_default();
        siblings
            .entry(sibling(from, same))
            .or_default()
            .insert(sibling(to, same));
    }
    let mut circles = Vec::new();
    for (folder, siblings) in folders {
        let mut left = siblings;
        // A module that uses nothing that is left is in no circle, nor is one that nothing left
        // uses.
        loop {
            let using: BTreeSet<&str> = left.keys().copied().collect();
            let used: BTreeSet<&str> = left.values().flatten().copied().collect();
            let before: usize = left.values().map(BTreeSet::len).sum();
            left.retain(|name, _| used.contains(name));
            left.values_mut()
                .for_each(|names| names.retain(|name| using.contains(name)));
            left.retain(|_, names| !names.is_empty());
            if left.values().map(BTreeSet::len).sum::<usize>() == before {
                break;
            }
        }
        for (name, names) in left {
            let names: Vec<&str> = names.into_iter().collect();
            let (folder, names) = (folder.join("::"), names.join(", "));
            circles.push(format!("in {folder:?} {name} uses {names}"));
        }
    }
    circles
}

/// Leaves of each module the topmost one that it is in.
fn at_the_top(uses: Uses) -> Uses {
    let top = |module: Module| module.into_iter().take(1).collect();
    uses.into_iter()
        .map(|(from, to)| (top(from), top(to)))
        .filter(|(from, to): &(Module, Module)| from != to)
        .collect()
}

fn sources_in(folder: &str) -> Sources {
    let mut sources = Sources::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    read(&folder, "", &mut sources);
    sources
}

fn sources() -> Sources {
    sources_in("src")
}

/// Lists the circles between the kernel's topmost modules if the source `path` says this, too.
fn circles_of_the_kernel_with(path: &str, text: &str) -> Vec<String> {
    let mut sources = sources_in("../kernel/src");
    assert!(sources.contains_key(&module(path)), "no {path}");
    add(&mut sources, path, text);
    circles(&at_the_top(uses(&sources)))
}

/// Tells what is wrong with the sources if one of them says this, too: the uses against the order,
/// and the circles.
fn wrong_with(path: &str, text: &str) -> (Vec<String>, Vec<String>) {
    let mut sources = sources();
    assert!(sources.contains_key(&module(path)), "no {path}");
    add(&mut sources, path, text);
    let uses = uses(&sources);
    (against_the_order(&uses), circles(&uses))
}

#[test]
fn folders_use_only_what_is_below_them() {
    assert_eq!(against_the_order(&uses(&sources())), [""; 0]);
}

#[test]
fn no_modules_use_one_another_in_a_circle() {
    assert_eq!(circles(&uses(&sources())), [""; 0]);
}

#[test]
fn an_import_against_the_order_is_found() {
    for text in [
        "use crate::judge::verdict::Verdict;",
        "use crate::{judge::{verdict::{self, Verdict}}, terminal::size};",
        "fn f() { super::super::judge::verdict::judge(); }",
        "mod tests { use super::super::super::judge::verdict; }",
    ] {
        let (against, _) = wrong_with("guest/watchdog.rs", text);
        assert_eq!(against, ["guest::watchdog uses judge::verdict"], "{text}");
    }
    let (against, _) = wrong_with(
        "guest/conductor_tests.rs",
        "use crate::judge::ktap::Parser;",
    );
    assert_eq!(against, ["guest::conductor uses judge::ktap"]);
    let (against, _) = wrong_with(
        "terminal/size.rs",
        "// use crate::guest::run;\n\"crate::guest::run\"",
    );
    assert_eq!(against, [""; 0]);
}

#[test]
fn a_circle_is_found_between_files_and_between_folders() {
    for (path, text, circle) in [
        (
            "guest/watchdog.rs",
            "use super::record::Record;",
            vec![
                "in \"guest\" record uses watchdog",
                "in \"guest\" watchdog uses record",
            ],
        ),
        (
            "commands/lab/steps.rs",
            "use super::lab;",
            vec![
                "in \"commands::lab\" columns uses steps",
                "in \"commands::lab\" mod uses columns, printing, steps",
                "in \"commands::lab\" printing uses columns, steps",
                "in \"commands::lab\" steps uses mod",
            ],
        ),
        (
            "commands/lab/steps.rs",
            "use crate::commands::suite::test;",
            vec![
                "in \"commands\" lab uses suite",
                "in \"commands\" suite uses lab",
            ],
        ),
    ] {
        assert_eq!(wrong_with(path, text).1, circle, "{path}: {text}");
    }
}

#[test]
fn no_topmost_modules_of_the_kernel_use_one_another_in_a_circle() {
    assert_eq!(circles_of_the_kernel_with("lib.rs", ""), [""; 0]);
}

#[test]
fn a_circle_between_topmost_modules_of_the_kernel_is_found() {
    for (path, text, circle) in [
        // An exported macro is where it is declared, and `console` uses `arch`.
        (
            "arch/apic.rs",
            "crate::warn!(\"\");",
            ["console uses arch", "arch uses console"],
        ),
        (
            "thread/wait.rs",
            "use crate::{arch::time, selftest::{Group, Test}};",
            ["selftest uses console", "thread uses selftest"],
        ),
        (
            "console/record.rs",
            "pub fn f() { super::super::link::present(); }",
            ["link uses console", "console uses link"],
        ),
        (
            "hotplug/slot.rs",
            "mod inner { fn f() { crate::lab::run() } }",
            ["lab uses hotplug", "hotplug uses lab"],
        ),
    ] {
        let found = circles_of_the_kernel_with(path, text).join("\n");
        for line in circle {
            assert!(
                found.contains(&format!("in \"\" {line}")),
                "{text}: {found}"
            );
        }
    }
    // Neither a comment nor a string is a use.
    let silent = "// crate::lab::run()\nconst TEXT: &str = \"crate::shell::run\";";
    assert_eq!(circles_of_the_kernel_with("mm/mod.rs", silent), [""; 0]);
}
