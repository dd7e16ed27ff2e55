//! The steps by which sections with interrupts off are counted.
//!
//! The count, and the flag that the last section restores, are one CPU's own; what may come between
//! any two steps is an interrupt (while they are on), with a switch of threads at its end, or an
//! exception. Both may push and pop for themselves. A switch carries count and flag from thread to
//! thread. NMIs never come here.
//!
//! | count | interrupts | flag | meaning |
//! |---|---|---|---|
//! | 0 | on or off | anybody's | no section is open |
//! | 0 | off | anybody's | a push has begun, or a pop has all but ended |
//! | 1 | off | not yet stored | a push is about to store it; who pushes meanwhile makes the count 2 and leaves it alone |
//! | 1 or more | off | what the last pop restores | inside |

/// What a CPU has for the counting. Each method is one instruction on the CPU's own words, so that
/// an interrupt comes before or after it.
pub trait Counted {
    /// Returns whether the CPU takes interrupts now.
    fn are_on(&self) -> bool;
    /// Turns them off.
    fn turn_off(&self);
    /// Turns them on.
    fn turn_on(&self);
    /// Returns the count.
    fn count(&self) -> u32;
    /// Adds 1 to the count.
    fn increment(&self);
    /// Takes 1 from the count.
    fn decrement(&self);
    /// Returns the flag: whether interrupts were on before the outermost section.
    fn were_on(&self) -> bool;
    /// Stores the flag.
    fn set_were_on(&self, on: bool);
}

/// Turns interrupts off and counts one section more.
#[inline(always)]
pub fn push(cpu: &impl Counted) {
    let on = cpu.are_on();
    // Off, then counted: an interrupt between the two could otherwise end in a switch of threads
    // with a section open.
    cpu.turn_off();
    cpu.increment();
    // The flag is written after the count: code that interrupts here (an exception) and pushes
    // for itself then sees a count above 0 and leaves the flag alone.
    if cpu.count() == 1 {
        cpu.set_were_on(on);
    }
}

/// Ends one section, and turns interrupts on if it was the outermost one and they were on before
/// it. Returns whether it did, so that the caller can give way.
#[inline(always)]
pub fn pop(cpu: &impl Counted) -> bool {
    // Read before the decrement: at count 0 the flag belongs to whoever pushes next.
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
