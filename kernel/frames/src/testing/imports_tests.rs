//! Imports between folders go one way: a folder imports only from those before it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folders, each after what it may use. Those on one line may not use each other.
const ORDER: [&[&str]; 8] = [
    &["base"],
    &["pageblock"],
    &["zone"],
    &["cache", "zonelist"],
    &["frames"],
    &["alloc"],
    &["hotplug"],
    &["oracle"],
];

fn rank(folder: &str) -> Option<usize> {
    ORDER.iter().position(|line| line.contains(&folder))
}

/// Returns the folder or file below `src` that a path is in.
fn folder_of(path: &Path, src: &Path) -> String {
    let below = path.strip_prefix(src).unwrap();
    let first = below.components().next().unwrap().as_os_str();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Returns the first names behind `crate::` in a source, including those in braces.
fn imported(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in source.split("crate::").skip(1) {
        let Some(inner) = part.strip_prefix('{') else {
            names.push(name(part));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, sign) in inner.char_indices() {
            match sign {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && !sign.is_whitespace() => {
                    names.push(name(&inner[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn name(text: &str) -> String {
    let is_part = |sign: &char| sign.is_alphanumeric() || *sign == '_';
    text.chars().take_while(is_part).collect()
}

/// Returns the part of a file that is built into kernels: everything before its tests.
fn production(source: &str) -> &str {
    let tests = ["\n#[cfg(test)]\nmod ", "\n#[cfg(all(test"];
    let ends = tests.iter().filter_map(|mark| source.find(mark)).min();
    &source[..ends.unwrap_or(source.len())]
}

/// Returns the imports of a source in `folder` that the order forbids.
fn against(folder: &str, source: &str) -> Vec<String> {
    let own = rank(folder).expect("a folder that is in the order");
    let is_wrong =
        |other: &String| other != folder && rank(other).is_some_and(|other_rank| other_rank >= own);
    imported(production(source))
        .into_iter()
        .filter(is_wrong)
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_import_runs_against_the_order_of_the_folders() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let is_test =
            name.ends_with("_tests.rs") || name.ends_with("_loom.rs") || name == "tests.rs";
        let folder = folder_of(&file, &src);
        if is_test || folder == "testing" || folder == "lib" {
            continue;
        }
        checked += 1;
        for other in against(&folder, &fs::read_to_string(&file).unwrap()) {
            wrong.push(format!("{} imports from {other}", file.display()));
        }
    }
    assert!(checked > 50, "{checked} files");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_import_against_the_order_is_found() {
    let source = "use crate::{\n    base::types::{Order, Pfn},\n    cache::cpu::PerCpu,\n    frames::Frames,\n};\n";
    assert_eq!(against("zone", source), ["cache", "frames"]);
    assert_eq!(against("zonelist", source), ["cache", "frames"]);
    assert_eq!(against("cache", source), ["frames"]);
    assert!(against("alloc", source).is_empty());
    let inline =
        "fn f() { crate::oracle::stats::g() }\n#[cfg(test)]\nmod tests { use crate::oracle::h; }";
    assert_eq!(against("hotplug", inline), ["oracle"]);
}
