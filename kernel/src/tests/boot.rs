//! What boot leaves behind: the CPUs, the nodes, the mappings.

use super::support::{
    ensure, tests,
    walk::{self, Leaf, Seen},
    want,
};
use crate::{
    arch::{self, context::Task, paging::stack, percpu},
    mm,
    selftest::{Group, Outcome, Report},
    thread,
};
use tidemark_frames::{FrameState, Pfn};

/// The group.
pub const GROUP: Group = Group {
    name: "boot",
    tests: tests![
        every_cpu_of_the_tables_is_online_or_left_out,
        cpus_have_numbers_of_their_own_and_their_own_apic_id,
        nodes_and_zones_follow_the_tables,
        no_page_is_writable_and_executable,
        code_constants_and_data_have_their_own_permissions,
        nothing_is_mapped_at_low_addresses,
        stacks_have_a_guard_page_below,
        tables_and_image_are_not_the_allocators,
        zones_do_not_overlap,
    ],
};

fn every_cpu_of_the_tables_is_online_or_left_out(_: &Task, report: &mut Report) -> Outcome {
    let tables = want!(report, arch::tables(), "no tables");
    let listed = tables.madt.cpus().count();
    let online = percpu::online_count();
    // On this emulator every CPU that may come up does.
    let expected = listed.min(arch::MAX_CPUS);
    ensure!(
        report,
        online == expected,
        "{listed} CPUs listed, {online} online"
    );
    for cpu in percpu::online() {
        let apic_id = percpu::of(cpu).apic_id();
        let known = tables.madt.cpus().any(|cpu| cpu.apic_id == apic_id);
        ensure!(
            report,
            known,
            "cpu{} has APIC id {apic_id}, which no table has",
            cpu.0
        );
    }
    Outcome::Pass
}

fn cpus_have_numbers_of_their_own_and_their_own_apic_id(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    use crate::arch::context::HardIrq;
    use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
    static SEEN: [AtomicU32; arch::MAX_CPUS] = [const { AtomicU32::new(0) }; arch::MAX_CPUS];
    fn look(_: &HardIrq, _: usize) {
        SEEN[arch::cpu_id().0].store(arch::apic::id() + 1, SeqCst);
    }
    super::support::everywhere::call_everywhere(look, 0, task);
    for cpu in percpu::online() {
        let seen = SEEN[cpu.0].load(SeqCst);
        let told = percpu::of(cpu).apic_id();
        ensure!(
            report,
            seen == told + 1,
            "cpu{}: APIC id {told}, +1 is {seen}",
            cpu.0
        );
        let twice =
            percpu::online().any(|other| other != cpu && SEEN[other.0].load(SeqCst) == seen);
        ensure!(report, !twice, "cpu{} shares its APIC id", cpu.0);
    }
    Outcome::Pass
}

fn nodes_and_zones_follow_the_tables(_: &Task, report: &mut Report) -> Outcome {
    let tables = want!(report, arch::tables(), "no tables");
    let nodes = mm::nodes_with_lists().count();
    ensure!(report, nodes >= 1, "no node");
    match &tables.srat {
        Ok(None) => ensure!(report, nodes == 1, "{nodes} nodes without a SRAT"),
        Ok(Some(srat)) => {
            for cpu in percpu::online() {
                let apic_id = percpu::of(cpu).apic_id();
                let domain = want!(
                    report,
                    srat.domain_of(apic_id),
                    "the SRAT does not know APIC id {apic_id}"
                );
                let same = percpu::online().all(|other| {
                    let there = srat.domain_of(percpu::of(other).apic_id());
                    (there == Some(domain)) == (node_of(other) == node_of(cpu))
                });
                ensure!(report, same, "cpu{} is not on its domain's node", cpu.0);
            }
        }
        Err(error) => ensure!(report, false, "the SRAT is bad: {error:?}"),
    }
    let first = mm::frames().zones().next();
    let first = want!(report, first, "no zone");
    ensure!(report, first.managed > 0, "{} manages nothing", first.id);
    Outcome::Pass
}

fn node_of(cpu: arch::CpuId) -> tidemark_frames::NodeId {
    mm::platform::node_of_cpu(cpu.0)
}

/// The first mapping for which `wrong` holds.
fn find(mut wrong: impl FnMut(&Leaf) -> bool) -> Option<Leaf> {
    let mut found = None;
    walk::for_each(&mut |seen| {
        if let Seen::Leaf(leaf) = seen
            && found.is_none()
            && wrong(&leaf)
        {
            found = Some(leaf);
        }
    });
    found
}

fn no_page_is_writable_and_executable(_: &Task, report: &mut Report) -> Outcome {
    let mut leaves = 0;
    let found = find(|leaf| {
        leaves += 1;
        leaf.writable && leaf.executable
    });
    ensure!(report, leaves > 10, "the walk saw {leaves} mappings only");
    if let Some(leaf) = found {
        report.note(format_args!("{leaf:x?}"));
        return Outcome::Fail;
    }
    Outcome::Pass
}

fn code_constants_and_data_have_their_own_permissions(_: &Task, report: &mut Report) -> Outcome {
    static DATA: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);
    let local = 0_u64;
    let code = no_page_is_writable_and_executable as *const () as u64;
    let constant = GROUP.name.as_ptr() as u64;
    let frame = arch::paging::phys_to_virt(0x10_0000) as u64;
    for (what, address, writable, executable) in [
        ("code", code, false, true),
        ("a constant", constant, false, false),
        ("a static", DATA.as_ptr() as u64, true, false),
        ("the stack", (&raw const local) as u64, true, false),
        ("the direct map", frame, true, false),
    ] {
        let leaf = want!(
            report,
            walk::lookup(address),
            "{what} at {address:#x} is not mapped"
        );
        ensure!(
            report,
            (leaf.writable, leaf.executable) == (writable, executable),
            "{what}: {leaf:x?}"
        );
    }
    Outcome::Pass
}

fn nothing_is_mapped_at_low_addresses(_: &Task, report: &mut Report) -> Outcome {
    // The loader's and the trampoline's identity mappings; a null pointer faults.
    let found = find(|leaf| leaf.virt < 1 << 32);
    if let Some(leaf) = found {
        report.note(format_args!("{leaf:x?}"));
        return Outcome::Fail;
    }
    Outcome::Pass
}

fn stacks_have_a_guard_page_below(_: &Task, report: &mut Report) -> Outcome {
    let mut stacks = 0;
    let mut wrong = None;
    let mut look = |address: u64| {
        let Some(stack) = stack::stack_of(address) else {
            wrong = Some((address, 0));
            return;
        };
        stacks += 1;
        let whole = (stack.bottom..stack.top)
            .step_by(4096)
            .all(|page| walk::lookup(page).is_some());
        if !whole || walk::lookup(stack.bottom - 1).is_some() || stack.top % 16 != 0 {
            wrong = Some((stack.bottom, stack.top));
        }
    };
    thread::for_each_thread(|info| {
        if info.rsp != 0 {
            look(info.rsp);
        }
    });
    let local = 0_u8;
    look((&raw const local) as u64);
    if let Some((bottom, top)) = wrong {
        report.note(format_args!("stack {bottom:#x} to {top:#x}"));
        return Outcome::Fail;
    }
    ensure!(report, stacks >= 2, "{stacks} stacks seen");
    Outcome::Pass
}

fn tables_and_image_are_not_the_allocators(_: &Task, report: &mut Report) -> Outcome {
    /// Where the link script puts the image.
    const IMAGE: u64 = 0xffff_ffff_8000_0000;
    let mut seen = 0;
    let mut wrong = None;
    let mut check = |phys: u64, what: &'static str| {
        seen += 1;
        let state = mm::frames().frame_state(Pfn::containing(phys));
        // The frame must not be the allocator's, or must be allocated with an owner.
        if matches!(state, FrameState::Free | FrameState::Cached) && wrong.is_none() {
            wrong = Some((phys, what, state));
        }
    };
    walk::for_each(&mut |what| match what {
        Seen::Table { phys } => check(phys, "a page table"),
        Seen::Leaf(leaf) if leaf.virt >= IMAGE => {
            for phys in (leaf.phys..leaf.phys + leaf.len).step_by(4096) {
                check(phys, "the kernel's image");
            }
        }
        Seen::Leaf(_) => {}
    });
    if let Some((phys, what, state)) = wrong {
        report.note(format_args!("{what} at {phys:#x} is {state:?}"));
        return Outcome::Fail;
    }
    ensure!(report, seen > 50, "{seen} frames seen");
    Outcome::Pass
}

fn zones_do_not_overlap(_: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    let mut total = 0;
    for zone in frames.zones() {
        total += zone.managed;
        ensure!(
            report,
            zone.managed <= zone.present && zone.present <= zone.span.len(),
            "{}: {} managed, {} present, {} spanned",
            zone.id,
            zone.managed,
            zone.present,
            zone.span.len()
        );
        // A block of 2 MiB has one zone: looking at the first frame of each is looking at all.
        for pfn in (zone.span.start.0..zone.span.end.0).step_by(512) {
            let Some(owner) = frames.zone_of(Pfn(pfn)) else {
                continue;
            };
            let info = frames.zone_info(owner);
            ensure!(
                report,
                info.span.contains(Pfn(pfn)),
                "{owner} has {pfn:#x}, outside its span"
            );
        }
    }
    ensure!(report, total * 4096 >= 16 << 20, "{total} frames in all");
    Outcome::Pass
}
