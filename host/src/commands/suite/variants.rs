//! Runs the demonstration on every zonelist protocol. Each passes, or fails for the reason that the
//! laboratory's matrix gives.

use anyhow::Result;
use tidemark_frames::Variant;
use tidemark_wire::{Hazard, Pressure};

use crate::commands::cases::run_cases;
use crate::commands::lab;
use crate::commands::suite::trial::Trial;
use crate::guest::build::Built;
use crate::guest::options::Mode;
use crate::judge::tally::Tally;
use crate::judge::verdict::{Outcome, Verdict, judge};
use crate::terminal::cli::Accel;
use crate::terminal::console::Console;

/// Cycles in a run.
const CYCLES: u32 = 2;

/// One run of the demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    zonelist: Variant,
    nmi_requests: bool,
    pressure: Pressure,
}

impl Case {
    fn name(self) -> String {
        let without = if self.nmi_requests { "" } else { "-no-nmi" };
        let uneven = match self.pressure {
            Pressure::Even => "",
            Pressure::Uneven => "-uneven",
        };
        format!("demonstration/{}{without}{uneven}", self.zonelist.name())
    }

    /// Returns the hazards of the demonstration that end it. Without any, it passes.
    fn ends_at(self) -> Vec<Hazard> {
        let mut hazards = vec![Hazard::H2];
        if self.nmi_requests {
            hazards.push(Hazard::H2Nmi);
        }
        hazards.retain(|hazard| lab::fails(self.zonelist, *hazard));
        hazards
    }
}

/// Returns every protocol with the usual demonstration. Protocols that fail at NMIs run without the
/// requests of NMIs as well. Protocols that pass also run under uneven pressure.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for zonelist in Variant::ALL {
        for nmi_requests in [true, false] {
            if nmi_requests || lab::fails(zonelist, Hazard::H2Nmi) {
                cases.push(Case {
                    zonelist,
                    nmi_requests,
                    pressure: Pressure::Even,
                });
            }
        }
        if !lab::fails(zonelist, Hazard::H2Nmi) {
            cases.push(Case {
                zonelist,
                nmi_requests: true,
                pressure: Pressure::Uneven,
            });
        }
    }
    cases
}

/// Runs the demonstrations whose name contains the pattern.
///
/// # Errors
/// QEMU cannot be started.
pub fn run_all(
    pattern: Option<&str>,
    accel: Accel,
    built: &Built,
    console: &mut Console,
) -> Result<Tally> {
    let cases = cases().into_iter().map(|case| (case.name(), case));
    let what = "every protocol passes, or fails as the matrix has it";
    run_cases(("demonstration", what), pattern, cases, |name, case| {
        let trial = Trial {
            mode: Mode::Demo {
                cycles: CYCLES,
                seed: 1,
                nmi_requests: case.nmi_requests,
                pressure: case.pressure,
            },
            zonelist: case.zonelist,
            plant: None,
            kernel_image: None,
        };
        let (verdict, log) = trial.run(name, accel, built, console, |expected, record, _| {
            lab::explained(judge(expected, record), case.zonelist, record)
        })?;
        Ok(check(case, &verdict, &log))
    })
}

fn check(case: Case, verdict: &Verdict, log: &[String]) -> Result<(), String> {
    let (code, ends_at) = (verdict.outcome.exit_code(), case.ends_at());
    if ends_at.is_empty() {
        return match verdict.outcome {
            Outcome::Passed => Ok(()),
            _ => Err(format!("exit code {code}: {:?}", verdict.reasons)),
        };
    }
    let says = |hazard: &Hazard| {
        let words = format!("hangs at {}, as the matrix has it", hazard.name());
        verdict
            .reasons
            .first()
            .is_some_and(|first| first.contains(&words))
    };
    if verdict.outcome != Outcome::Hung || !ends_at.iter().any(says) {
        return Err(format!(
            "exit code {code}, not a hang at one of {ends_at:?}: {:?}",
            verdict.reasons
        ));
    }
    // The guest itself must have found the CPU, the function, the registers and the callers.
    for words in [
        " took no timer interrupt for ",
        "waits for the rebuild that it has interrupted, at read_seqbegin",
        "rip ",
        // The compiler may have left any function of this module.
        "tidemark_frames::alloc::slow::",
    ] {
        if !log.iter().any(|line| line.contains(words)) {
            return Err(format!("the log does not say {words:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcome: Outcome, reason: &str) -> Verdict {
        Verdict {
            outcome,
            reasons: vec![reason.to_owned()],
        }
    }

    fn log() -> Vec<String> {
        [
            "hang: cpu1 took no timer interrupt for 2250 ms (cpu0 noticed): an NMI handler waits for the rebuild that it has interrupted, at read_seqbegin",
            "rip ffffffff80000000",
            "2: tidemark_frames::alloc::slow::alloc_slow+0x7b",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn case(zonelist: Variant, nmi_requests: bool) -> Case {
        Case {
            zonelist,
            nmi_requests,
            pressure: Pressure::Even,
        }
    }

    #[test]
    fn every_protocol_is_run_and_each_that_hangs_in_an_nmi_without_those_too() {
        let with: Vec<Variant> = cases()
            .into_iter()
            .filter(|case| case.nmi_requests && case.pressure == Pressure::Even)
            .map(|case| case.zonelist)
            .collect();
        assert_eq!(with, Variant::ALL);
        assert_eq!(cases().len(), with.len() + 6 + 4);
    }

    #[test]
    fn a_protocol_passes_unless_the_matrix_says_that_it_hangs() {
        let passed = Verdict {
            outcome: Outcome::Passed,
            reasons: Vec::new(),
        };
        for (zonelist, nmi_requests) in [
            (Variant::Seed, true),
            (Variant::None, true),
            (Variant::SeqlockIrqsave, false),
        ] {
            let case = case(zonelist, nmi_requests);
            assert!(check(case, &passed, &[]).is_ok(), "{case:?}");
            let hung = verdict(Outcome::Hung, "seed hangs at H2, as the matrix has it");
            assert!(check(case, &hung, &log()).is_err(), "{case:?}");
        }
        for case in [
            case(Variant::Seqlock, false),
            case(Variant::SeqlockIrqsave, true),
        ] {
            assert!(check(case, &passed, &[]).is_err(), "{case:?}");
        }
    }

    #[test]
    fn a_hang_counts_only_at_its_hazard_and_if_the_guest_has_found_it() {
        let irqsave = case(Variant::SeqlockIrqsave, true);
        let right = "seqlock-irqsave hangs at H2-NMI, as the matrix has it: …";
        let hung = |reason| verdict(Outcome::Hung, reason);
        assert!(check(irqsave, &hung(right), &log()).is_ok());
        assert!(check(irqsave, &hung(right), &log()[..1]).is_err());
        assert!(check(irqsave, &hung("no heartbeat for 5 s"), &log()).is_err());
        assert!(
            check(
                irqsave,
                &hung("x hangs at H2, as the matrix has it"),
                &log()
            )
            .is_err()
        );
        assert!(check(irqsave, &verdict(Outcome::Failed, right), &log()).is_err());
        let seqlock = case(Variant::Seqlock, false);
        assert!(check(seqlock, &hung(right), &log()).is_err());
        let interrupt = hung("seqlock hangs at H2, as the matrix has it: …");
        assert!(check(seqlock, &interrupt, &log()).is_ok());
    }
}
