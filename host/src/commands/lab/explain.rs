//! Explains a hang of the demonstration by a cell of the matrix.

use super::cells::Cell;
use crate::guest::record::{Ended, Record};
use crate::guest::watchdog::Hang;
use crate::judge::verdict::Verdict;
use tidemark_frames::Variant;
use tidemark_wire::{Hazard, LabContext, LabVerdict};

/// Returns the hazard at which a reader is stuck that waits, in this context, for the rebuild that
/// it has interrupted.
fn hazard_of(context: LabContext) -> Option<Hazard> {
    match context {
        LabContext::Interrupt => Some(Hazard::H2),
        LabContext::Nmi => Some(Hazard::H2Nmi),
        LabContext::Task => None,
    }
}

/// Whether the matrix says that a protocol fails at a hazard.
pub fn fails(variant: Variant, hazard: Hazard) -> bool {
    Cell::of(variant, hazard).expected() == Some(LabVerdict::Fails)
}

/// Why a demonstration of this variant hangs with such a reader: the hazard, what the matrix says
/// of it, and the command that repeats it alone.
fn explanation(variant: Variant, context: LabContext) -> String {
    let name = variant.name();
    let Some(hazard) = hazard_of(context) else {
        return format!("{name} hangs in a task, which no hazard of the lab explains");
    };
    let cell = Cell::of(variant, hazard);
    let agrees = if fails(variant, hazard) {
        "as the matrix has it"
    } else {
        "which the matrix does not have"
    };
    format!(
        "{name} hangs at {}, {agrees}: {}",
        hazard.name(),
        cell.command(2)
    )
}

/// Puts a hang at a hazard of the protocol's down to it: the hazard, what the laboratory's matrix
/// says of it, and the command that shows it alone.
pub fn explained(mut verdict: Verdict, zonelist: Variant, record: &Record) -> Verdict {
    if let Ended::Hung(Hang::StuckReader { context, .. }) = record.ended {
        verdict.reasons.insert(0, explanation(zonelist, context));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hang_is_put_down_to_the_hazard_of_its_context() {
        let says = |variant, context| explanation(variant, context);
        let by_nmi = says(Variant::SeqlockIrqsave, LabContext::Nmi);
        assert_eq!(
            by_nmi,
            "seqlock-irqsave hangs at H2-NMI, as the matrix has it: cargo run -- lab --variant seqlock-irqsave --hazard H2-NMI --cpus 2 --show"
        );
        let by_interrupt = says(Variant::Seqlock, LabContext::Interrupt);
        assert!(by_interrupt.starts_with("seqlock hangs at H2, as the matrix has it"));
        // A cell that holds in the matrix must not pass for a known failure.
        for (variant, context) in [
            (Variant::SeqlockIrqsave, LabContext::Interrupt),
            (Variant::Seed, LabContext::Nmi),
        ] {
            assert!(says(variant, context).contains("which the matrix does not have"));
        }
        assert!(says(Variant::Seqlock, LabContext::Task).contains("no hazard"));
    }
}
