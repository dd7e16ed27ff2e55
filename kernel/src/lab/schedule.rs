//! Schedules, which define what happens at which point, and windows, which define what a trace must
//! show. The code is pure: the kernel's hook and host tests share it.

use core::fmt;
use tidemark_wire::{AtCounter, LabContext, LabPoint, LabStep, Role, Stay};

/// A role at a point.
pub type Place = (Role, LabPoint);

/// The moment at which a role reaches a point for the nth time, from 1.
pub type Moment = (Role, LabPoint, u32);

/// The action at a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Stay until one of these moments has come.
    Hold(&'static [Moment]),
    /// Send this CPU a real interrupt whose handler makes the reader's request. If interrupts are
    /// on, wait until it is over; if they are off, until it is pending.
    Interrupt,
    /// Send this CPU an NMI whose handler makes the reader's request, and wait until it is over.
    Nmi,
    /// Print one line.
    Print,
    /// Free the spare that the scenario keeps ready.
    FreeSpare,
    /// Tell the feeder to stop.
    StopFeeding,
}

/// One line of a schedule: when `role` reaches `point` for the `nth` time (from 1), it takes
/// `action`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The role.
    pub role: Role,
    /// The point.
    pub point: LabPoint,
    /// The number of the visit, from 1.
    pub nth: u32,
    /// The action.
    pub action: Action,
}

impl Rule {
    /// Returns a rule for the first visit.
    pub const fn first(role: Role, point: LabPoint, action: Action) -> Self {
        Self::nth(role, point, 1, action)
    }

    /// Returns a rule for the nth visit.
    pub const fn nth(role: Role, point: LabPoint, nth: u32, action: Action) -> Self {
        Self {
            role,
            point,
            nth,
            action,
        }
    }
}

/// Returns the actions of the rules that fire at a place, in their order.
pub fn firing(rules: &[Rule], place: Place, nth: u32) -> impl Iterator<Item = Action> + '_ {
    rules
        .iter()
        .filter(move |rule| (rule.role, rule.point) == place && rule.nth == nth)
        .map(|rule| rule.action)
}

/// The demand of a window on a step's detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Any detail.
    Any,
    /// This number.
    Is(u64),
    /// A stay at this point, until any point.
    StayAt(LabPoint),
    /// A stay at the first point that lasted until one of the others.
    StayUntil(LabPoint, [LabPoint; 2]),
    /// An odd counter, which [`Detail::Past`] refers to.
    Odd,
    /// An even counter.
    Even,
    /// The odd counter plus this number.
    Past(u32),
}

/// A step that a window demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The role.
    pub role: Role,
    /// The point.
    pub point: LabPoint,
    /// The CPU, if the window demands one.
    pub cpu: Option<u8>,
    /// The context, if the window demands one.
    pub context: Option<LabContext>,
    /// The detail.
    pub detail: Detail,
}

/// Returns the demand for a step of a role at a point.
pub const fn want(role: Role, point: LabPoint) -> Want {
    Want {
        role,
        point,
        cpu: None,
        context: None,
        detail: Detail::Any,
    }
}

/// Returns the demand for the end of a stay at a point.
pub const fn left(role: Role, at: LabPoint) -> Want {
    let mut want = want(role, LabPoint::Released);
    want.detail = Detail::StayAt(at);
    want
}

/// Returns the demand for the end of a stay at a point that lasted until one of two others was
/// reached.
pub const fn released_by_one(role: Role, at: LabPoint, until: [LabPoint; 2]) -> Want {
    let mut want = want(role, LabPoint::Released);
    want.detail = Detail::StayUntil(at, until);
    want
}

/// Returns the demand for the end of a stay at a point that lasted until another one was reached.
pub const fn released(role: Role, at: LabPoint, until: LabPoint) -> Want {
    want(role, LabPoint::Released).says(Stay { at, until }.pack())
}

impl Want {
    /// Demands this CPU as well.
    pub const fn on(mut self, cpu: usize) -> Self {
        self.cpu = Some(cpu as u8);
        self
    }

    /// Demands this context as well.
    pub const fn within(mut self, context: LabContext) -> Self {
        self.context = Some(context);
        self
    }

    /// Demands this detail as well.
    pub const fn says(mut self, detail: u64) -> Self {
        self.detail = Detail::Is(detail);
        self
    }

    /// Demands an odd counter as well, which the steps after it refer to.
    pub const fn odd(mut self) -> Self {
        self.detail = Detail::Odd;
        self
    }

    /// Demands an even counter as well.
    pub const fn even(mut self) -> Self {
        self.detail = Detail::Even;
        self
    }

    /// Demands the odd counter plus `more` as well.
    pub const fn past(mut self, more: u32) -> Self {
        self.detail = Detail::Past(more);
        self
    }

    /// Returns whether a step meets the demand. `odd` is the counter that was found odd, and is set
    /// here.
    fn is(self, step: &LabStep, odd: &mut Option<u32>) -> bool {
        let counter = AtCounter::unpack(step.detail).counter;
        let is_there = (self.role, self.point) == (step.role, step.point)
            && self.cpu.is_none_or(|cpu| cpu == step.cpu)
            && self.context.is_none_or(|context| context == step.context);
        is_there
            && match self.detail {
                Detail::Any => true,
                Detail::Is(detail) => detail == step.detail,
                Detail::StayAt(at) => Stay::unpack(step.detail).is_some_and(|stay| stay.at == at),
                Detail::StayUntil(at, until) => Stay::unpack(step.detail)
                    .is_some_and(|stay| stay.at == at && until.contains(&stay.until)),
                Detail::Even => counter.is_multiple_of(2),
                Detail::Past(more) => odd.is_some_and(|odd| odd.wrapping_add(more) == counter),
                Detail::Odd => {
                    let is_odd = counter % 2 == 1;
                    *odd = is_odd.then_some(counter);
                    is_odd
                }
            }
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.role.name(), self.point.name())?;
        if let Some(cpu) = self.cpu {
            write!(f, " on cpu{cpu}")?;
        }
        match self.context {
            Some(LabContext::Task) => f.write_str(" in a task")?,
            Some(LabContext::Interrupt) => f.write_str(" in an interrupt")?,
            Some(LabContext::Nmi) => f.write_str(" in an NMI")?,
            None => {}
        }
        match self.detail {
            Detail::Any => Ok(()),
            Detail::Is(detail) => match Stay::unpack(detail) {
                Some(stay) if self.point == LabPoint::Released => {
                    write!(f, " from {} by {}", stay.at.name(), stay.until.name())
                }
                _ => write!(f, " with {detail}"),
            },
            Detail::Odd => f.write_str(" with an odd counter"),
            Detail::StayAt(at) => write!(f, " from {}", at.name()),
            Detail::StayUntil(at, [one, other]) => {
                let (at, one, other) = (at.name(), one.name(), other.name());
                write!(f, " from {at} by {one} or {other}")
            }
            Detail::Even => f.write_str(" with an even counter"),
            Detail::Past(0) => f.write_str(" with the same counter"),
            Detail::Past(_) => f.write_str(" with the counter after it"),
        }
    }
}

/// Searches the trace for the steps of `window`, in this order, with other steps between them.
/// Returns the first that is missing.
pub fn missing(trace: impl Iterator<Item = LabStep>, window: &[Want]) -> Option<Want> {
    let (mut left, mut odd) = (window, None);
    for step in trace {
        match left.split_first() {
            None => return None,
            Some((next, rest)) if next.is(&step, &mut odd) => left = rest,
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

    const HOLD: Action = Action::Hold(&[(Writer, RebuildOdd, 1)]);

    #[test]
    fn a_rule_fires_for_its_role_its_point_and_its_time_only() {
        let rules = [
            Rule::first(Reader, SlowBegin, HOLD),
            Rule::nth(Reader, SlowBegin, 3, Action::FreeSpare),
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

    fn step(role: Role, point: LabPoint, cpu: u8, context: LabContext, detail: u64) -> LabStep {
        LabStep {
            order: 0,
            at_us: 0,
            cpu,
            context,
            role,
            point,
            detail,
        }
    }

    fn trace() -> [LabStep; 5] {
        let stay = Stay {
            at: WalkEntry,
            until: RebuildEven,
        };
        [
            step(Writer, RebuildOdd, 1, LabContext::Task, 7),
            step(Reader, WalkEntry, 1, LabContext::Interrupt, 7),
            step(Reader, SlowBegin, 1, LabContext::Interrupt, 7 | 1 << 32),
            step(Writer, RebuildEven, 1, LabContext::Task, 7),
            step(Reader, LabPoint::Released, 1, LabContext::Task, stay.pack()),
        ]
    }

    fn shown(window: &[Want]) -> Option<Want> {
        missing(trace().into_iter(), window)
    }

    #[test]
    fn a_window_is_shown_only_by_its_steps_in_order() {
        let (odd, even) = (want(Writer, RebuildOdd), want(Writer, RebuildEven));
        let begin = want(Reader, SlowBegin);
        assert_eq!(shown(&[]), None);
        assert_eq!(shown(&[odd, begin, even]), None);
        // This is outside of the window: the reader began after the writer was done.
        assert_eq!(shown(&[even, begin]), Some(begin));
        // Each step of the window needs a step of its own.
        assert_eq!(shown(&[begin, begin]), Some(begin));
        assert_eq!(missing([].into_iter(), &[odd]), Some(odd));
    }

    #[test]
    fn a_window_compares_cpu_context_counter_and_stay() {
        let odd = want(Writer, RebuildOdd).odd();
        let begin = want(Reader, SlowBegin);
        assert_eq!(shown(&[odd.on(1), begin.past(0)]), None);
        for wrong in [
            begin.on(0),
            begin.within(LabContext::Task),
            begin.within(LabContext::Nmi),
            begin.past(1),
            want(Reader, WalkEntry).says(6),
            begin.even(),
            released(Reader, SlowBegin, RebuildEven),
            released(Reader, WalkEntry, RebuildOdd),
            left(Reader, SlowBegin),
        ] {
            assert_eq!(shown(&[odd, wrong]), Some(wrong));
        }
        assert_eq!(
            shown(&[odd, released(Reader, WalkEntry, RebuildEven)]),
            None
        );
        assert_eq!(shown(&[odd, left(Reader, WalkEntry)]), None);
        let one_of = |until| released_by_one(Reader, WalkEntry, until);
        assert_eq!(shown(&[odd, one_of([RebuildOdd, RebuildEven])]), None);
        let neither = one_of([RebuildOdd, SlowBegin]);
        assert_eq!(shown(&[odd, neither]), Some(neither));
        // No step has set the odd counter, so none can be compared with it.
        assert_eq!(shown(&[begin.past(0)]), Some(begin.past(0)));
        let even = missing(
            [step(Writer, RebuildOdd, 1, LabContext::Task, 8)].into_iter(),
            &[odd],
        );
        assert_eq!(even, Some(odd), "a counter that never moves");
    }
}
