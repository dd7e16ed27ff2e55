use super::*;
use crate::guest::build;

/// The lists cannot become stale: what they name is in the present sources.
#[test]
fn every_mutant_applies_to_the_sources_as_they_are() {
    let workspace = build::workspace();
    let list = read(&workspace).unwrap();
    assert!(!list.is_empty());
    let wrong: Vec<String> = list
        .iter()
        .filter_map(|mutant| {
            let error = mutant.check(&workspace).err()?;
            Some(format!("{}: {error:#}", mutant.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The documentation names every mistake that no test can find, each with its reason, and no
/// others.
#[test]
fn the_survivors_are_the_documented_ones() {
    let workspace = build::workspace();
    let text = std::fs::read_to_string(workspace.join("docs/testing.md")).unwrap();
    let section = text
        .split("### Those that no test can find")
        .nth(1)
        .unwrap();
    let section = section.split("\n## ").next().unwrap();
    let flat = |reason: &str| reason.replace('|', "\\|").replace('\n', " ");
    let documented = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut documented: Vec<String> = documented.map(str::to_owned).collect();
    let mut survivors: Vec<String> = read(&workspace)
        .unwrap()
        .iter()
        .filter_map(|mutant| {
            let what = match mutant.kind().unwrap() {
                Kind::Equivalent => "",
                Kind::OutOfReach => "Out of reach: ",
                _ => return None,
            };
            let file = mutant.file.replace("kernel/", "").replace("/src", "");
            let (name, reason) = (&mutant.name, flat(mutant.reason()));
            Some(format!("{name}` | `{file}` | {what}{reason} |"))
        })
        .collect();
    documented.sort();
    survivors.sort();
    assert_eq!(documented, survivors);
}

fn entry(text: &str) -> Mutant {
    let head = "name = \"x\"\nfile = \"kernel/sync/src/grace.rs\"\nwhy = \"w\"\n";
    toml::from_str(&[head, text].concat()).unwrap()
}

#[test]
fn a_piece_must_be_there_once_or_behind_one_that_is() {
    let source = "a();\nb();\nc();\nb();\n";
    let fails = |text: &str| entry(text).applied(source).unwrap_err().to_string();
    assert!(fails("old = 'd();'\nnew = ''").contains("is not in"));
    assert!(fails("old = 'b();'\nnew = ''").contains("2 times"));
    assert!(fails("old = 'a();'\nnew = ' a(); '").contains("does not differ"));
    assert!(fails("after = 'b();'\nold = 'c();'\nnew = ''").contains("2 times"));
    assert!(fails("after = 'c();'\nold = 'a();'\nnew = ''").contains("not behind"));
    let second = entry("after = 'c();'\nold = 'b();'\nnew = 'd();'");
    assert_eq!(second.applied(source).unwrap(), "a();\nb();\nc();\nd();\n");
}

#[test]
fn an_entry_has_tests_or_one_reason_for_having_none() {
    let kind = |text: &str| entry(&["old = 'a'\nnew = 'b'\n", text].concat()).kind();
    assert_eq!(kind("by = 'tests::'").unwrap(), Kind::Caught);
    assert_eq!(kind("equivalent = 'e'").unwrap(), Kind::Equivalent);
    assert_eq!(kind("out_of_reach = 'o'").unwrap(), Kind::OutOfReach);
    assert!(kind("").is_err());
    assert!(kind("by = []").is_err());
    assert!(kind("by = 'tests::'\nequivalent = 'e'").is_err());
}

#[test]
fn a_test_is_of_the_files_crate_unless_it_says_otherwise() {
    let by = "old = 'a'\nnew = 'b'\nby = ['one', 'loom:two', 'frames:three', 'loom:frames:four']";
    let suite = |package, loom| Suite { package, loom };
    assert_eq!(
        entry(by).tests().unwrap(),
        [
            (suite("tidemark-sync", false), "one"),
            (suite("tidemark-sync", true), "two"),
            (suite("tidemark-frames", false), "three"),
            (suite("tidemark-frames", true), "four"),
        ]
    );
}
