//! Describes protocols, hazards and mistakes, in a line each.

use tidemark_frames::{Mistake, Variant};
use tidemark_wire::Hazard;

use crate::terminal::console::say;
use crate::terminal::release;

/// Prints all of it.
pub fn print() {
    say("protocols (--variant), each with what it stands for");
    for known in Variant::ALL {
        let (name, what, origin) = (known.name(), known.says(), known.origin());
        say(format!("  {name:<24}{what} ({origin})"));
    }
    say("releases of Linux (--variant linux-X), each with the protocol that stands for it");
    for (series, steps) in release::listed() {
        say(format!("  {series:<24}{steps}"));
    }
    say("hazards (--hazard)");
    for known in Hazard::ALL {
        say(format!("  {:<24}{}", known.name(), known.says()));
    }
    say("mistakes (--mistake), which --planted runs");
    for known in Mistake::ALL {
        say(format!("  {:<20}{}", known.name(), known.says()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::build::workspace;

    #[test]
    fn the_documentation_has_a_row_of_each() {
        let read = |name: &str| std::fs::read_to_string(workspace().join(name)).unwrap();
        let (design, lab) = (read("docs/design.md"), read("docs/lab.md"));
        for variant in Variant::NAMES {
            assert!(design.contains(&format!("\n| `{variant}` |")), "{variant}");
            assert!(lab.contains(&format!("\n    {variant} ")), "{variant}");
        }
        for (series, _) in release::listed() {
            assert!(lab.contains(&format!("\n| {series} |")), "{series}");
        }
        for hazard in Hazard::NAMES {
            assert!(lab.contains(&format!("\n| {hazard} |")), "{hazard}");
        }
        for mistake in Mistake::NAMES {
            assert!(lab.contains(&format!("\n    {mistake} ")), "{mistake}");
        }
    }
}
