//! The Tidemark kernel.
#![no_std]

#[cfg(target_feature = "avx")]
compile_error!(
    "the entry stubs save SSE registers only: build without target-cpu or target-feature flags that turn AVX on"
);

mod arch;
mod bench;
mod console;
mod demo;
mod hotplug;
#[cfg(feature = "lab")]
mod lab;
mod link;
mod mm;
mod options;
mod panic;
mod points;
mod power;
#[cfg(feature = "lab")]
mod price;
mod selftest;
mod shell;
mod show;
mod tests;
mod thread;
mod watchdog;

use arch::acpi::Tables;
use arch::context::Task;
use arch::early::BumpAllocator;
use arch::{ArchError, CpuId, MAX_CPUS, interrupts, paging, percpu, smp, timer};
use bootloader_api::BootInfo;
use core::fmt;
use core::panic::PanicInfo;
use options::{Mode, Plant};
use thread::{Placement, Priority};
use tidemark_wire::{ToHost, exit_value};

/// What the boot CPU found out, for the first thread.
static FOUND: spin::Once<Found> = spin::Once::new();

struct Found {
    tables: &'static Tables<'static>,
    smp: smp::Report,
}

/// Boots the kernel. Its statements are the order of boot, top to bottom.
pub fn kmain(boot: &'static mut BootInfo) -> ! {
    percpu::init_boot_cpu();
    console::init_early();
    let mut words = [0; options::CMDLINE_BYTES];
    let options = options::init(&mut words)
        .unwrap_or_else(|refusal| refuse(&format_args!("{refusal}\n{}", options::KnownOptions)));
    console::show_debug(options.verbose);
    let variant = options.zonelist;
    info!(
        "tidemark {}, zonelist={}",
        env!("CARGO_PKG_VERSION"),
        variant.name()
    );
    mm::check_size(&boot.memory_regions).unwrap_or_else(|error| refuse(&error));
    let mut early = BumpAllocator::new(&boot.memory_regions);
    timer::set_hz(options.timer_hz);
    panic::init(kernel_file(boot), boot.kernel_image_offset);
    let tables = arch::init(boot, &mut early).unwrap_or_else(|error| refuse(&error));
    let cpus = tables.madt.cpus().count();
    if cpus > MAX_CPUS {
        refuse(&format_args!(
            "{cpus} CPUs: Tidemark runs on {MAX_CPUS} at most"
        ));
    }
    thread::init(cpus, &mut || early.frame()).expect("memory for the threads' stacks");
    thread::init_cpu(CpuId(0));
    let started = smp::start_others(&tables.madt, &mut early, ap_main);
    let smp = started.unwrap_or_else(|error| refuse(&ArchError::from(error)));
    info!("{} of {cpus} CPUs are up", smp.online);
    for apic_id in &smp.failed {
        warn!("the CPU with APIC id {apic_id} did not come up and is left out");
    }
    #[cfg(feature = "lab")]
    points::register(&lab::AT_POINTS);
    mm::init(early, tables, variant, options.seed);
    panic::set_zones_hook(mm::report::write_zones);
    if options.plant == Some(Plant::CorruptMigrated) {
        mm::page_cache::corrupt_next_moved();
    }
    let tables_are_sound = paging::check_no_writable_executable();
    tables_are_sound.unwrap_or_else(|error| refuse(&error));
    FOUND.call_once(|| Found { tables, smp });
    thread::spawn("main", Placement::Cpu(CpuId(0)), Priority::Normal, main, 0)
        .expect("a slot for the first thread");
    thread::idle()
}

/// Runs as the first thread: starts the parts that need threads, then does what the machine was
/// booted for.
fn main(task: &Task, _: usize) {
    let found = FOUND
        .get()
        .expect("the boot CPU has published what it found");
    console::init(task);
    watchdog::start();
    mm::start(found.tables, task);
    link::init();
    link::start();
    watchdog::heartbeat::start();
    hotplug::init(&found.tables.fadt, hotplug_placement(), task);
    link::send(
        task,
        &ToHost::Ready {
            cpus: found.smp.online as u16,
            cpus_left_out: (found.smp.failed.len() + found.smp.left_out) as u16,
            nodes: mm::machine_nodes().len() as u8,
        },
    );
    info!("ready");
    let options = options::get();
    let passed = match options.mode {
        Mode::Demo => demo::run(task) == demo::Verdict::Passed,
        Mode::Test => tests::run(task, options.pattern.as_str()).not_ok == 0,
        Mode::Shell => shell::run(task) == shell::Verdict::Sound,
        Mode::Bench => bench::run(task) == bench::Verdict::Complete,
        #[cfg(feature = "lab")]
        Mode::Lab => lab::run(task, options.hazard),
        #[cfg(feature = "lab")]
        Mode::Price => price::run(task, options.cycles) == price::Verdict::Measured,
    };
    show::dump(task, options.dump);
    power::exit(if passed {
        exit_value::PASSED
    } else {
        exit_value::FAILED
    })
}

/// Returns where the hot-plug thread runs: on any CPU. A scenario of the laboratory, however, holds
/// one CPU while DIMMs come and go, and wants the writer on another.
fn hotplug_placement() -> Placement {
    #[cfg(feature = "lab")]
    if options::get().mode == Mode::Lab && percpu::online_count() > 1 {
        return Placement::Cpu(lab::WRITER);
    }
    Placement::Any
}

/// Runs on another CPU once it is set up: it idles, and runs the threads that are placed on it.
fn ap_main(cpu: CpuId) -> ! {
    thread::init_cpu(cpu);
    thread::idle()
}

/// Returns the kernel's own ELF file, which the loader has left in memory; nothing without a map of
/// physical memory.
fn kernel_file(boot: &BootInfo) -> &'static [u8] {
    let Some(offset) = boot.physical_memory_offset.into_option() else {
        return &[];
    };
    let start = (offset + boot.kernel_addr) as *const u8;
    // SAFETY: by the contract of `bootloader_api` the file lies there, in memory that is not
    // usable, so no code writes to it. Physical memory is mapped.
    unsafe { core::slice::from_raw_parts(start, boot.kernel_len as usize) }
}

/// Ends a boot on a machine that the kernel cannot work with. It prints one line, and uses the exit
/// code for that case.
fn refuse(why: &dyn fmt::Display) -> ! {
    warn!("{why}");
    power::exit(exit_value::REFUSED)
}

/// Ends the machine after a panic.
pub fn die(info: &PanicInfo<'_>) -> ! {
    interrupts::disable();
    panic::on_panic(info)
}
