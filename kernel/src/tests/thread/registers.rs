//! What an interrupt, a preemption and a switch leave of a thread's registers.

use core::{
    arch::asm,
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*},
};

use super::{Crew, PATIENCE_NS, ensure, finished};
use crate::{
    arch::{
        context::{HardIrq, Task},
        cpu_id, percpu, time, timer, vectors,
    },
    selftest::{Outcome, Report},
    thread::{self, Priority},
};

/// The CPU whose ticks disturb, plus one; 0 for none.
static DISTURBED: AtomicUsize = AtomicUsize::new(0);
/// Whether the running test's thread is inside a backward copy.
static COPYING: AtomicBool = AtomicBool::new(false);
static COPIES_HIT: AtomicU32 = AtomicU32::new(0);
static WRONG_FILLS: AtomicU32 = AtomicU32::new(0);
static HOOKED: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);

/// Memory that one party at a time uses, as the tests arrange.
struct Arena<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: each arena is used by one CPU only, and by its handler or its thread, not by both.
unsafe impl<const N: usize> Sync for Arena<N> {}

/// What the tick's handler fills: the middle of it.
static FILLED: Arena<192> = Arena(UnsafeCell::new([0; 192]));
/// What the thread copies to and fro.
static COPIED: Arena<32768> = Arena(UnsafeCell::new([0; 32768]));

/// Dirties what a handler may dirty, and checks that its own memory fills go upwards.
fn disturb(_: &HardIrq) {
    if DISTURBED.load(SeqCst) != cpu_id().0 + 1 {
        return;
    }
    dirty_xmm();
    if COPYING.load(SeqCst) {
        COPIES_HIT.fetch_add(1, SeqCst);
        // SAFETY: only this handler on this CPU uses the arena, and it does not nest.
        let filled = unsafe { &mut *FILLED.0.get() };
        let value = COPIES_HIT.load(SeqCst) as u8 | 1;
        for byte in &mut *filled {
            *byte = 0;
        }
        // A length that the compiler does not know: a call of memset, not a few stores.
        let end = core::hint::black_box(128);
        core::hint::black_box(&mut *filled)[64..end].fill(value);
        let good = core::hint::black_box(&*filled)
            .iter()
            .enumerate()
            .all(|(at, &byte)| byte == if (64..128).contains(&at) { value } else { 0 });
        if !good {
            WRONG_FILLS.fetch_add(1, SeqCst);
        }
    }
}

fn hook_timer() -> bool {
    HOOKED.swap(true, SeqCst) || timer::add_hook(disturb).is_ok()
}

/// Lets the ticks of the running CPU disturb until it is dropped. The caller stays on its CPU.
struct Disturbance;

impl Disturbance {
    fn here() -> Self {
        DISTURBED.store(cpu_id().0 + 1, SeqCst);
        Self
    }
}

impl Drop for Disturbance {
    fn drop(&mut self) {
        DISTURBED.store(0, SeqCst);
        STOP.store(true, SeqCst);
    }
}

fn dirty_xmm() {
    // SAFETY: changes only the registers that it names.
    unsafe {
        asm!(
            "pcmpeqb xmm0, xmm0", "movdqa xmm1, xmm0", "movdqa xmm2, xmm0", "movdqa xmm3, xmm0",
            "movdqa xmm4, xmm0", "movdqa xmm5, xmm0", "movdqa xmm6, xmm0", "movdqa xmm7, xmm0",
            "movdqa xmm8, xmm0", "movdqa xmm9, xmm0", "movdqa xmm10, xmm0", "movdqa xmm11, xmm0",
            "movdqa xmm12, xmm0", "movdqa xmm13, xmm0", "movdqa xmm14, xmm0", "movdqa xmm15, xmm0",
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
            out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
            out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _,
            out("xmm15") _, options(nomem, nostack, preserves_flags)
        );
    }
}

/// The XMM registers, then 16 words of the red zone.
#[derive(Clone, Copy, PartialEq)]
#[repr(C, align(16))]
struct Image {
    xmm: [[u64; 2]; 16],
    red_zone: [u64; 16],
}

impl Image {
    fn of(seed: u64) -> Self {
        let word = |at: usize| (seed + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            xmm: core::array::from_fn(|at| [word(2 * at), word(2 * at + 1)]),
            red_zone: core::array::from_fn(|at| word(100 + at)),
        }
    }
}

/// Loads the image, spins, and stores what is left of it. Only in a build without red zone, where
/// nothing else uses the words below the stack pointer.
fn hold(image: &Image, left: &mut Image, spins: u64) {
    // SAFETY: reads and writes the two images and the 128 bytes below rsp, all of which are ours;
    // the registers that it changes are named.
    unsafe {
        asm!(
            "movaps xmm0, [{i}]", "movaps xmm1, [{i}+16]", "movaps xmm2, [{i}+32]",
            "movaps xmm3, [{i}+48]", "movaps xmm4, [{i}+64]", "movaps xmm5, [{i}+80]",
            "movaps xmm6, [{i}+96]", "movaps xmm7, [{i}+112]", "movaps xmm8, [{i}+128]",
            "movaps xmm9, [{i}+144]", "movaps xmm10, [{i}+160]", "movaps xmm11, [{i}+176]",
            "movaps xmm12, [{i}+192]", "movaps xmm13, [{i}+208]", "movaps xmm14, [{i}+224]",
            "movaps xmm15, [{i}+240]",
            "mov {t:e}, 16",
            "2:",
            "mov {w}, [{i} + 248 + {t}*8]",
            "neg {t}",
            "mov [rsp + {t}*8], {w}",
            "neg {t}",
            "dec {t}",
            "jnz 2b",
            "3:",
            "dec {n}",
            "jnz 3b",
            "mov {t:e}, 16",
            "4:",
            "neg {t}",
            "mov {w}, [rsp + {t}*8]",
            "neg {t}",
            "mov [{o} + 248 + {t}*8], {w}",
            "dec {t}",
            "jnz 4b",
            "movaps [{o}], xmm0", "movaps [{o}+16], xmm1", "movaps [{o}+32], xmm2",
            "movaps [{o}+48], xmm3", "movaps [{o}+64], xmm4", "movaps [{o}+80], xmm5",
            "movaps [{o}+96], xmm6", "movaps [{o}+112], xmm7", "movaps [{o}+128], xmm8",
            "movaps [{o}+144], xmm9", "movaps [{o}+160], xmm10", "movaps [{o}+176], xmm11",
            "movaps [{o}+192], xmm12", "movaps [{o}+208], xmm13", "movaps [{o}+224], xmm14",
            "movaps [{o}+240], xmm15",
            i = in(reg) image, o = in(reg) left, n = inout(reg) spins => _,
            t = out(reg) _, w = out(reg) _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
            out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
            out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _,
            out("xmm15") _,
        );
    }
}

/// A thread holds values in all XMM registers and the red zone over 1,000 timer interrupts, while
/// the handler and a second thread on its CPU dirty the same registers.
pub(super) fn survive_timer(task: &Task, report: &mut Report) -> Outcome {
    fn rival(task: &Task, _: usize) {
        let image = Image::of(7);
        let mut left = image;
        while !STOP.load(SeqCst) && left == image {
            hold(&image, &mut left, 2000);
        }
        if left == image {
            finished(task);
        }
    }
    ensure!(report, hook_timer(), "no room for a timer handler");
    STOP.store(false, SeqCst);
    let here = cpu_id();
    let ticks = || percpu::of(here).taken(vectors::TIMER);
    let mut crew = Crew::new();
    let started = crew.start(here, Priority::Normal, rival, 0);
    ensure!(report, started, "no slot for the rival");
    let disturbance = Disturbance::here();
    let begin = ticks();
    let give_up_ns = time::now_ns() + PATIENCE_NS;
    let image = Image::of(1);
    while ticks().wrapping_sub(begin) < 1000 {
        let mut left = Image::of(2);
        hold(&image, &mut left, 2000);
        for (at, (want, got)) in image.xmm.iter().zip(&left.xmm).enumerate() {
            ensure!(
                report,
                want == got,
                "xmm{at}: {got:x?} instead of {want:x?}"
            );
        }
        ensure!(
            report,
            image.red_zone == left.red_zone,
            "the red zone was overwritten"
        );
        ensure!(
            report,
            time::now_ns() < give_up_ns,
            "the timer ticks too slowly"
        );
    }
    drop(disturbance);
    ensure!(report, crew.wait(task), "the rival's registers were lost");
    Outcome::Pass
}

fn mxcsr() -> u32 {
    let mut value = 0u32;
    // SAFETY: stores MXCSR to a local.
    unsafe { asm!("stmxcsr [{}]", in(reg) &mut value, options(nostack, preserves_flags)) };
    value
}

fn set_mxcsr(value: u32) {
    // SAFETY: changes the rounding mode only, with every exception masked; nothing in between
    // computes with floats.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &value, options(nostack, preserves_flags)) };
}

/// A thread's rounding mode is its own, over switches of both kinds.
pub(super) fn float_control(task: &Task, report: &mut Report) -> Outcome {
    const DEFAULT: u32 = 0x1f80;
    const TOWARDS_ZERO: u32 = 0x7f80;
    fn rival(task: &Task, _: usize) {
        let good = mxcsr() & !0x3f == DEFAULT;
        thread::yield_now(task);
        if good && mxcsr() & !0x3f == DEFAULT {
            finished(task);
        }
    }
    set_mxcsr(TOWARDS_ZERO);
    let mut crew = Crew::new();
    let started = crew.start(cpu_id(), Priority::High, rival, 0);
    let after = mxcsr();
    set_mxcsr(DEFAULT);
    ensure!(report, started, "no slot for the rival");
    ensure!(
        report,
        after & !0x3f == TOWARDS_ZERO,
        "MXCSR came back as {after:#x}"
    );
    ensure!(
        report,
        crew.wait(task),
        "a new thread inherited another's MXCSR"
    );
    Outcome::Pass
}

/// Ticks interrupt a thread that copies backwards (the direction flag is set); their handler fills
/// memory, which must go upwards, and the copy must be right.
pub(super) fn backward_memmove(task: &Task, report: &mut Report) -> Outcome {
    const HITS: u32 = 50;
    let _ = task;
    ensure!(report, hook_timer(), "no room for a timer handler");
    COPIES_HIT.store(0, SeqCst);
    WRONG_FILLS.store(0, SeqCst);
    // SAFETY: tests run one at a time, and only this thread uses the arena.
    let copied = unsafe { &mut *COPIED.0.get() };
    let _disturbance = Disturbance::here();
    let give_up_ns = time::now_ns() + PATIENCE_NS;
    let length = copied.len() - 8;
    let value = |at: usize| ((at * 31) >> 3) as u8;
    while COPIES_HIT.load(SeqCst) < HITS {
        for (at, byte) in copied.iter_mut().enumerate() {
            *byte = value(at);
        }
        for shift in 1..=8 {
            COPYING.store(true, SeqCst);
            core::hint::black_box(&mut *copied).copy_within(shift - 1..shift - 1 + length, shift);
            COPYING.store(false, SeqCst);
        }
        let wrong = (8..copied.len()).find(|&at| copied[at] != value(at - 8));
        ensure!(report, wrong.is_none(), "wrong byte copied at {wrong:?}");
        ensure!(
            report,
            time::now_ns() < give_up_ns,
            "{} hits only",
            COPIES_HIT.load(SeqCst)
        );
    }
    let wrong = WRONG_FILLS.load(SeqCst);
    ensure!(
        report,
        wrong == 0,
        "{wrong} of {HITS} handlers wrote backwards"
    );
    Outcome::Pass
}
