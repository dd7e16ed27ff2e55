//! Tests an interrupt, a preemption or an exception at every step of a push and a pop, and at every
//! two steps.

use super::*;
use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What arrives before a step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arrival {
    /// An interrupt, if interrupts are on; its handler pushes and pops.
    Interrupt,
    /// An interrupt that ends with a switch to another thread and back.
    Preemption,
    /// An exception, whether interrupts are on or not; its handler pushes and pops.
    Exception,
}

const ARRIVALS: [Arrival; 3] = [Arrival::Interrupt, Arrival::Preemption, Arrival::Exception];

/// The protocol under test: the real one, or one with a mistake.
#[derive(Clone, Copy)]
struct Protocol {
    push: fn(&Cpu),
    pop: fn(&Cpu),
}

const RIGHT: Protocol = Protocol {
    push: |cpu| push(cpu),
    pop: |cpu| {
        pop(cpu);
    },
};

struct Cpu {
    on: Cell<bool>,
    count: Cell<u32>,
    were_on: Cell<bool>,
    steps: Cell<usize>,
    protocol: Protocol,
    /// The steps before which something arrives, and what; each arrives once.
    plan: RefCell<Vec<(usize, Arrival)>>,
}

impl Cpu {
    /// Counts a step, after the arrival that is due before it.
    fn step(&self) {
        let step = self.steps.replace(self.steps.get() + 1);
        let due = self.plan.borrow().iter().position(|&(at, _)| at == step);
        let Some(due) = due else { return };
        let (_, arrival) = self.plan.borrow_mut().remove(due);
        let on = self.on.get();
        if arrival != Arrival::Exception && !on {
            return;
        }
        // The interrupt gate turns interrupts off; the return from the handler restores them.
        self.on.set(false);
        let before = self.count.get();
        (self.protocol.push)(self);
        assert!(!self.on.get(), "a handler's gate with interrupts on");
        (self.protocol.pop)(self);
        assert!(!self.on.get(), "a handler turned interrupts on");
        assert_eq!(self.count.get(), before);
        if arrival == Arrival::Preemption {
            self.switch();
        }
        self.on.set(on);
    }

    /// Switches to another thread, which runs for a while and switches back. The switch pushes for
    /// itself, and the other thread was switched away from in the same way.
    fn switch(&self) {
        (self.protocol.push)(self);
        assert_eq!(self.count.get(), 1, "a switch inside a gate");
        let mine = self.were_on.get();
        self.were_on.set(true);
        (self.protocol.pop)(self);
        assert!(self.on.get(), "the other thread's interrupts stay off");
        (self.protocol.push)(self);
        assert_eq!(self.count.get(), 1);
        self.were_on.set(mine);
        (self.protocol.pop)(self);
        assert!(!self.on.get(), "interrupts are on before the return");
    }
}

impl Counted for Cpu {
    fn are_on(&self) -> bool {
        self.step();
        self.on.get()
    }
    fn turn_off(&self) {
        self.step();
        self.on.set(false);
    }
    fn turn_on(&self) {
        self.step();
        self.on.set(true);
    }
    fn count(&self) -> u32 {
        self.step();
        self.count.get()
    }
    fn increment(&self) {
        self.step();
        self.count.set(self.count.get() + 1);
    }
    fn decrement(&self) {
        self.step();
        self.count.set(self.count.get() - 1);
    }
    fn were_on(&self) -> bool {
        self.step();
        self.were_on.get()
    }
    fn set_were_on(&self, on: bool) {
        self.step();
        self.were_on.set(on);
    }
}

/// Runs two sections, one in the other, then a third one; returns how many steps that took.
fn run(protocol: Protocol, on: bool, plan: &[(usize, Arrival)]) -> usize {
    let cpu = Cpu {
        on: Cell::new(on),
        count: Cell::new(0),
        // What the section before left in the flag: the opposite of what is to be restored.
        were_on: Cell::new(!on),
        steps: Cell::new(0),
        protocol,
        plan: RefCell::new(plan.to_vec()),
    };
    let inside = |depth| {
        assert!(!cpu.on.get(), "interrupts are on in a gate");
        assert_eq!(cpu.count.get(), depth);
    };
    let outside = || {
        assert_eq!(cpu.on.get(), on, "interrupts are not as they were");
        assert_eq!(cpu.count.get(), 0);
    };
    (protocol.push)(&cpu);
    inside(1);
    (protocol.push)(&cpu);
    inside(2);
    (protocol.pop)(&cpu);
    inside(1);
    (protocol.pop)(&cpu);
    outside();
    (protocol.push)(&cpu);
    inside(1);
    (protocol.pop)(&cpu);
    outside();
    cpu.steps.get()
}

fn enumerate(protocol: Protocol) {
    for on in [true, false] {
        let steps = run(protocol, on, &[]);
        assert!(steps > 15);
        for first in 0..steps {
            for one in ARRIVALS {
                // The handler's own steps count, so the second arrival may come inside the first.
                let steps = run(protocol, on, &[(first, one)]);
                for second in first + 1..steps {
                    for other in ARRIVALS {
                        run(protocol, on, &[(first, one), (second, other)]);
                    }
                }
            }
        }
    }
}

#[test]
fn whatever_comes_at_any_two_steps_leaves_the_count_right() {
    enumerate(RIGHT);
}

#[test]
fn the_outermost_pop_says_that_it_turned_interrupts_on() {
    for on in [true, false] {
        let cpu = Cpu {
            on: Cell::new(on),
            count: Cell::new(0),
            were_on: Cell::new(!on),
            steps: Cell::new(0),
            protocol: RIGHT,
            plan: RefCell::default(),
        };
        push(&cpu);
        push(&cpu);
        assert_eq!([pop(&cpu), pop(&cpu)], [false, on]);
    }
}

#[test]
fn every_swapped_step_is_noticed() {
    let mistakes: [(&str, Protocol); 4] = [
        (
            "counted before interrupts are off",
            Protocol {
                push: |cpu| {
                    let on = cpu.are_on();
                    cpu.increment();
                    cpu.turn_off();
                    if cpu.count() == 1 {
                        cpu.set_were_on(on);
                    }
                },
                ..RIGHT
            },
        ),
        (
            "the flag stored before the count",
            Protocol {
                push: |cpu| {
                    let on = cpu.are_on();
                    cpu.turn_off();
                    if cpu.count() == 0 {
                        cpu.set_were_on(on);
                    }
                    cpu.increment();
                },
                ..RIGHT
            },
        ),
        (
            "the flag read after the count",
            Protocol {
                pop: |cpu| {
                    cpu.decrement();
                    if cpu.count() == 0 && cpu.were_on() {
                        cpu.turn_on();
                    }
                },
                ..RIGHT
            },
        ),
        (
            "interrupts on before the count is down",
            Protocol {
                pop: |cpu| {
                    let were_on = cpu.were_on();
                    if cpu.count() == 1 && were_on {
                        cpu.turn_on();
                    }
                    cpu.decrement();
                },
                ..RIGHT
            },
        ),
    ];
    for (name, mistake) in mistakes {
        let caught = catch_unwind(AssertUnwindSafe(|| enumerate(mistake)));
        assert!(caught.is_err(), "{name} passes");
    }
}
