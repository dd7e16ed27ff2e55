//! A schedule: what happens where. Pure; the kernel's hook and host tests use the same.

use tidemark_wire::{LabPoint, Role};

/// A step that a role takes.
pub type Place = (Role, LabPoint);

/// What is done at a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Stay until one of these places was reached.
    Hold(&'static [Place]),
    /// Send this CPU a real interrupt whose handler makes the reader's request, and wait for it.
    Interrupt,
    /// The same by an NMI.
    Nmi,
    /// Print one line.
    Print,
    /// Free what the scenario keeps ready.
    FreeSpare,
    /// Tell the feeder to stop.
    StopFeeding,
}

/// One line of a schedule: when `role` reaches `point` for the `nth` time (from 1), `action` is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Who.
    pub role: Role,
    /// Where.
    pub point: LabPoint,
    /// Which time, from 1.
    pub nth: u32,
    /// What.
    pub action: Action,
}

impl Rule {
    /// A rule for the first time.
    pub const fn first(role: Role, point: LabPoint, action: Action) -> Self {
        Self {
            role,
            point,
            nth: 1,
            action,
        }
    }
}

/// The rules that fire at a place, in their order.
pub fn firing(rules: &[Rule], place: Place, nth: u32) -> impl Iterator<Item = Action> + '_ {
    rules
        .iter()
        .filter(move |rule| (rule.role, rule.point) == place && rule.nth == nth)
        .map(|rule| rule.action)
}

/// Whether the places of `window` occur in the trace in this order, other steps between them.
/// Returns the first place that is missing.
pub fn missing(trace: impl Iterator<Item = Place>, window: &[Place]) -> Option<Place> {
    let mut left = window;
    for place in trace {
        match left.split_first() {
            None => return None,
            Some((next, rest)) if *next == place => left = rest,
            Some(_) => {}
        }
    }
    left.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use LabPoint::{RebuildEven, RebuildOdd, SlowBegin, WalkEntry};
    use Role::{Reader, Writer};

    const HOLD: Action = Action::Hold(&[(Writer, RebuildOdd)]);

    #[test]
    fn a_rule_fires_for_its_role_its_point_and_its_time_only() {
        let rules = [
            Rule::first(Reader, SlowBegin, HOLD),
            Rule {
                nth: 3,
                ..Rule::first(Reader, SlowBegin, Action::FreeSpare)
            },
            Rule::first(Reader, SlowBegin, Action::Print),
        ];
        let fired = |role, point, nth| {
            let mut actions = firing(&rules, (role, point), nth);
            [actions.next(), actions.next(), actions.next()]
        };
        let first = [Some(HOLD), Some(Action::Print), None];
        assert_eq!(fired(Reader, SlowBegin, 1), first);
        assert_eq!(fired(Reader, SlowBegin, 2), [None; 3]);
        assert_eq!(
            fired(Reader, SlowBegin, 3),
            [Some(Action::FreeSpare), None, None]
        );
        assert_eq!(fired(Writer, SlowBegin, 1), [None; 3]);
        assert_eq!(fired(Reader, WalkEntry, 1), [None; 3]);
    }

    #[test]
    fn a_window_is_shown_only_by_its_places_in_order() {
        let trace = [
            (Writer, RebuildOdd),
            (Reader, WalkEntry),
            (Reader, SlowBegin),
            (Writer, RebuildEven),
        ];
        let shown = |window: &[Place]| missing(trace.into_iter(), window);
        assert_eq!(shown(&[]), None);
        assert_eq!(
            shown(&[
                (Writer, RebuildOdd),
                (Reader, SlowBegin),
                (Writer, RebuildEven)
            ]),
            None
        );
        // Outside: the reader began after the writer was done.
        assert_eq!(
            shown(&[(Writer, RebuildEven), (Reader, SlowBegin)]),
            Some((Reader, SlowBegin))
        );
        // Each place of the window is a step of its own.
        assert_eq!(
            shown(&[(Reader, SlowBegin), (Reader, SlowBegin)]),
            Some((Reader, SlowBegin))
        );
        assert_eq!(
            missing([].into_iter(), &[(Writer, RebuildOdd)]),
            Some((Writer, RebuildOdd))
        );
    }
}
