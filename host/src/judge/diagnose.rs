//! Finds out what went wrong with a guest that crashed or hung, on which CPU and in which function.

use crate::guest::record::{Ended, Record};
use crate::guest::registers::CpuState;
use crate::guest::watchdog::Hang;
use crate::judge::symbols::Symbols;

/// Returns one line that names the kind, the CPU and the place; `None` for a run that ended in
/// order.
pub fn headline(record: &Record, symbols: &Symbols) -> Option<String> {
    let place = |state: &CpuState| format!("cpu{} at {}", state.cpu, symbols.place(state.rip));
    Some(match &record.ended {
        Ended::Exit(tidemark_wire::exit_value::CRASHED) => match record.crash {
            Some((cpu, rip)) => format!("panic on cpu{cpu} at {}", symbols.place(rip)),
            None => "panic; the kernel did not say where".to_owned(),
        },
        Ended::Reset => {
            let states = &record.registers;
            match faulting(states) {
                Some(state) => format!("triple fault on {}", place(state)),
                None => "triple fault; QEMU gave no registers".to_owned(),
            }
        }
        Ended::Hung(hang @ Hang::StuckReader { rip, .. }) => {
            format!("hang: {hang}, at {}", symbols.place(*rip))
        }
        Ended::Hung(hang) => {
            let named = hang.cpu().or(record.crash.map(|(cpu, _)| cpu));
            let states = &record.registers;
            let state = named
                .and_then(|cpu| states.iter().find(|state| state.cpu == cpu))
                .or_else(|| suspect(states));
            match state {
                Some(state) => format!("hang ({hang}): {}", place(state)),
                None => format!("hang ({hang})"),
            }
        }
        _ => return None,
    })
}

/// Returns the CPU that most likely hangs: it runs with interrupts off, or at least does not wait
/// for one.
fn suspect(states: &[CpuState]) -> Option<&CpuState> {
    states
        .iter()
        .find(|state| !state.interrupts)
        .or_else(|| states.iter().find(|state| !state.halted))
        .or(states.first())
}

/// Returns the CPU whose fault most likely reset the machine. QEMU does not say which it was, but
/// leaves it running at the instruction that it could not get past.
fn faulting(states: &[CpuState]) -> Option<&CpuState> {
    states
        .iter()
        .find(|state| !state.has_idt)
        .or_else(|| {
            states
                .iter()
                .find(|state| !state.halted && !state.interrupts)
        })
        .or_else(|| suspect(states))
}

/// Returns where every CPU was, a line for each.
pub fn places(record: &Record, symbols: &Symbols) -> Vec<String> {
    record
        .registers
        .iter()
        .map(|state| {
            let how = match (state.halted, state.interrupts) {
                (true, true) => "halted",
                (true, false) => "halted, interrupts off",
                (false, true) => "running",
                (false, false) => "running, interrupts off",
            };
            format!("cpu{}: {} ({how})", state.cpu, symbols.name(state.rip))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(cpu: u16, interrupts: bool, has_idt: bool) -> CpuState {
        CpuState {
            cpu,
            rip: 0,
            halted: false,
            interrupts,
            has_idt,
        }
    }

    #[test]
    fn a_cpu_without_interrupts_is_suspect_and_one_without_handlers_has_faulted() {
        let states = [
            state(0, true, true),
            state(11, false, true),
            state(2, true, false),
        ];
        assert_eq!(suspect(&states).map(|state| state.cpu), Some(11));
        assert_eq!(faulting(&states).map(|state| state.cpu), Some(2));
        assert_eq!(faulting(&states[..2]).map(|state| state.cpu), Some(11));
        assert_eq!(suspect(&states[..1]).map(|state| state.cpu), Some(0));
        assert_eq!(suspect(&[]), None);
    }
}
