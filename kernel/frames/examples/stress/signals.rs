//! Interrupts, calls between CPUs and NMIs. They are real signals, which come between any two
//! instructions.
//!
//! | signal | is | comes from | masks |
//! |---|---|---|---|
//! | SIGALRM | an interrupt | a timer of its CPU; steps of the allocator; rebuilds | SIGALRM, SIGUSR2 |
//! | SIGUSR2 | a call from another CPU: drains, grace periods | `drain_others`, `begin_grace` | the same |
//! | SIGUSR1 | an NMI | as SIGALRM | all three |
//!
//! A timer is set again at the end of its handler, so that the task goes on even on a slow machine.
//! Code with interrupts off masks the first two. Only an NMI masks NMIs.

use crate::{
    cpu::{self, Cpu},
    handlers,
    machine::{Machine, frames},
};
use std::{
    mem, ptr,
    sync::atomic::{AtomicBool, Ordering::*},
};
use tidemark_sync::{ContextKind, HardIrq, Nmi};

/// The kinds of signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A device's interrupt.
    Irq,
    /// A call from another CPU.
    Call,
    /// A non-maskable interrupt.
    Nmi,
}

/// Whether interrupts and NMIs come. They do not before the machine is up, nor after the last task.
static ARMED: AtomicBool = AtomicBool::new(false);

impl Signal {
    const MASKABLE: [Self; 2] = [Self::Irq, Self::Call];
    const ALL: [Self; 3] = [Self::Irq, Self::Call, Self::Nmi];

    const fn number(self) -> libc::c_int {
        match self {
            Self::Irq => libc::SIGALRM,
            Self::Call => libc::SIGUSR2,
            Self::Nmi => libc::SIGUSR1,
        }
    }
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    // SAFETY: the set is initialised by `sigemptyset` before it is read; the numbers are valid.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, signal.number());
        }
        set
    }
}

/// Masks or unmasks signals of this thread; returns whether the interrupts were masked before.
fn mask(how: libc::c_int, signals: &[Signal]) -> bool {
    let set = set_of(signals);
    // SAFETY: both sets are initialised before they are read: `set` above, `before` by the call.
    unsafe {
        let mut before = mem::zeroed();
        libc::pthread_sigmask(how, &set, &mut before);
        libc::sigismember(&before, Signal::Irq.number()) == 1
    }
}

/// Turns interrupts off on this CPU; returns whether they were off.
pub fn irqs_off() -> bool {
    mask(libc::SIG_BLOCK, &Signal::MASKABLE)
}

/// Turns interrupts on again.
pub fn irqs_on() {
    mask(libc::SIG_UNBLOCK, &Signal::MASKABLE);
}

/// Installs the handlers, for the whole process, and masks the signals on this thread: it is no
/// CPU.
pub fn install() {
    mask(libc::SIG_BLOCK, &Signal::ALL);
    handle(Signal::Irq, on_irq, &Signal::MASKABLE);
    handle(Signal::Call, on_call, &Signal::MASKABLE);
    handle(Signal::Nmi, on_nmi, &Signal::ALL);
}

fn handle(signal: Signal, handler: extern "C" fn(libc::c_int), masks: &[Signal]) {
    // SAFETY: the handler is a function for one argument, as one without SA_SIGINFO is; what it
    // calls is async-signal-safe: atomics, the allocator, and system calls that are.
    let result = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        action.sa_mask = set_of(masks);
        libc::sigaction(signal.number(), &action, ptr::null_mut())
    };
    assert_eq!(result, 0, "{signal:?} can be handled");
}

/// Makes this thread the CPU of this number. From now on it takes interrupts.
pub fn attach(number: usize) {
    cpu::become_cpu(number);
    let cpu = cpu::here();
    // SAFETY: no obligations.
    cpu.thread.store(unsafe { libc::gettid() }, Release);
    for (timer, signal) in cpu.timers.iter().zip([Signal::Irq, Signal::Nmi]) {
        timer.store(new_timer(signal), Release);
    }
    mask(libc::SIG_UNBLOCK, &Signal::ALL);
}

/// Ends this thread's work as a CPU: no signal comes any more. It is called at rest.
pub fn detach() {
    mask(libc::SIG_BLOCK, &Signal::ALL);
    for timer in &cpu::here().timers {
        // SAFETY: the timer was made by `attach`, and is deleted once.
        unsafe { libc::timer_delete(timer.load(Acquire)) };
    }
}

/// Makes a timer that sends this thread a signal, and does not set it.
fn new_timer(signal: Signal) -> libc::timer_t {
    // SAFETY: the event is initialised, every field that the kind of notification reads included.
    unsafe {
        let mut event: libc::sigevent = mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal.number();
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = ptr::null_mut();
        let made = libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer);
        assert_eq!(made, 0, "a timer can be made");
        timer
    }
}

/// Sets whether interrupts and NMIs come. Calls between CPUs always come.
pub fn arm(armed: bool) {
    ARMED.store(armed, SeqCst);
}

/// Sets this CPU's timers for the first time.
pub fn start_timers() {
    let cpu = cpu::here();
    for timer in 0..cpu.timers.len() {
        set_timer(cpu, timer);
    }
}

/// Sets a timer to a random time from now: 20 to 200 µs for interrupts, twice that for NMIs.
fn set_timer(cpu: &Cpu, which: usize) {
    let after_ns = (20_000 + cpu.random().below(180_000)) << which;
    let zero = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let spec = libc::itimerspec {
        it_interval: zero,
        it_value: libc::timespec {
            tv_nsec: after_ns as libc::c_long,
            ..zero
        },
    };
    // SAFETY: the timer was made by `attach`; the call is async-signal-safe.
    unsafe { libc::timer_settime(cpu.timers[which].load(Acquire), 0, &spec, ptr::null_mut()) };
}

/// Sends a CPU a signal. A signal to this CPU is taken before this returns, unless it is masked.
/// Interrupts and NMIs are sent only while they are armed.
pub fn raise(to: &Cpu, signal: Signal) {
    if signal != Signal::Call && !ARMED.load(Relaxed) {
        return;
    }
    let thread = to.thread.load(Acquire);
    // SAFETY: the thread is one of this process, or has ended, which the kernel tells apart.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal.number()) };
}

/// Runs a handler's body, and leaves the interrupted code its `errno`.
fn in_context(context: ContextKind, body: impl FnOnce(&'static Cpu)) {
    // SAFETY: the pointer is this thread's own, and valid.
    let errno = unsafe { *libc::__errno_location() };
    let cpu = cpu::here();
    let interrupted = cpu.enter(context);
    body(cpu);
    cpu.leave(interrupted);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

extern "C" fn on_irq(_: libc::c_int) {
    if !ARMED.load(Relaxed) {
        return;
    }
    in_context(ContextKind::HardIrq, |cpu| {
        // SAFETY: this is the entry of an interrupt's handler; other interrupts are masked in it.
        let irq = unsafe { HardIrq::mint() };
        handlers::work(&irq, cpu);
        set_timer(cpu, 0);
    });
}

extern "C" fn on_nmi(_: libc::c_int) {
    if !ARMED.load(Relaxed) {
        return;
    }
    in_context(ContextKind::Nmi, |cpu| {
        // SAFETY: this is the entry of an NMI's handler; everything is masked in it.
        let nmi = unsafe { Nmi::mint() };
        handlers::work(&nmi, cpu);
        set_timer(cpu, 1);
    });
}

extern "C" fn on_call(_: libc::c_int) {
    in_context(ContextKind::HardIrq, |cpu| {
        // SAFETY: this is the entry of an interrupt's handler; other interrupts are masked in it.
        let irq = unsafe { HardIrq::mint() };
        // SeqCst: the number is read before the caches are drained, and stored after that; see
        // `drain_others`.
        let asked = cpu.drain_asked.load(SeqCst);
        if asked != cpu.drain_done.load(Relaxed) {
            frames().drain_local(&irq);
            cpu.drain_done.store(asked, SeqCst);
        }
        if cpu.grace_asked.swap(false, SeqCst) {
            Machine::owe_grace(cpu);
        }
    });
}

/// Returns whether interrupts and NMIs come.
pub fn is_armed() -> bool {
    ARMED.load(Relaxed)
}
