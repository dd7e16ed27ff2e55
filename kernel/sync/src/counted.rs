//! Counts the nested sections with interrupts off, step by step.
//!
//! The count, and the flag that the last section restores, belong to one CPU. Between any two steps
//! an interrupt (while they are on) or an exception may come. Both may push and pop for themselves,
//! and an interrupt may end in a switch of threads. A switch carries count and flag from thread to
//! thread. NMI handlers never call these functions.
//!
//! | count | interrupts | flag | meaning |
//! |---|---|---|---|
//! | 0 | on or off | undefined | no section is open |
//! | 0 | off | undefined | a push has begun, or a pop has all but ended |
//! | 1 | off | not yet stored | a push is about to store it; code that pushes meanwhile makes the count 2 and leaves the flag alone |
//! | 1 or more | off | what the last pop restores | inside |

/// The words of one CPU that the counting uses. Each method is one instruction on them, so an
/// interrupt comes before or after it, never within it.
pub trait Counted {
    /// Returns whether the CPU takes interrupts now.
    fn are_on(&self) -> bool;
    /// Turns interrupts off.
    fn turn_off(&self);
    /// Turns interrupts on.
    fn turn_on(&self);
    /// Returns the count.
    fn count(&self) -> u32;
    /// Adds 1 to the count.
    fn increment(&self);
    /// Subtracts 1 from the count.
    fn decrement(&self);
    /// Returns the flag: whether interrupts were on before the outermost section.
    fn were_on(&self) -> bool;
    /// Stores the flag.
    fn set_were_on(&self, on: bool);
}

/// Turns interrupts off and counts one more section.
#[inline(always)]
pub fn push(cpu: &impl Counted) {
    let on = cpu.are_on();
    // Interrupts go off before the count rises: an interrupt between the two could otherwise end in
    // a switch of threads with a section open.
    cpu.turn_off();
    cpu.increment();
    // The flag is written after the count. Code that interrupts between the two (an exception) and
    // pushes for itself then sees a count above 0 and leaves the flag alone.
    if cpu.count() == 1 {
        cpu.set_were_on(on);
    }
}

/// Ends one section, and turns interrupts on if it was the outermost one and they were on before
/// it. Returns whether it turned them on, so that the caller can give way.
#[inline(always)]
pub fn pop(cpu: &impl Counted) -> bool {
    // The flag is read before the decrement: at count 0 it belongs to the next push.
    let were_on = cpu.were_on();
    cpu.decrement();
    if cpu.count() != 0 || !were_on {
        return false;
    }
    cpu.turn_on();
    true
}

#[cfg(all(test, not(loom)))]
#[path = "counted_tests.rs"]
mod tests;
