//! Says a verdict of the laboratory in a word.

use tidemark_wire::LabVerdict;

/// Returns a verdict in the words of the specification.
pub fn words(verdict: LabVerdict) -> &'static str {
    match verdict {
        LabVerdict::Holds | LabVerdict::HoldsDirectOnly => "holds",
        LabVerdict::Fails => "FAILS",
        LabVerdict::NotReached => "not reached",
    }
}
