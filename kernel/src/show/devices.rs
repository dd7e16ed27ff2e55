//! The tables of interrupts, threads and DIMMs.

use crate::arch::{self, CpuId, percpu, vectors};
use crate::hotplug::{self, MAX_SLOTS, Obstacle, SlotPhase, SlotView};
use crate::mm;
use crate::thread::{self, State, ThreadInfo};
use core::fmt::{self, Write};
use tidemark_frames::SectionNo;

/// Columns before the first CPU's name. A count of one digit ends in the same column as the name.
const BEFORE_CPUS: usize = 11;

/// The vectors that have a line of their own, with their usual abbreviations.
const NAMED: [(u8, &str, &str); 12] = [
    (vectors::NMI, "NMI", "Non-maskable interrupts"),
    (vectors::TIMER, "LOC", "Local timer interrupts"),
    (vectors::SPURIOUS, "SPU", "Spurious interrupts"),
    (vectors::WORK, "IWI", "Work interrupts"),
    (vectors::RESCHEDULE, "RES", "Rescheduling interrupts"),
    (vectors::CALL, "CAL", "Function call interrupts"),
    (vectors::DRAIN, "DRN", "Cache drains"),
    (vectors::TLB, "TLB", "TLB shootdowns"),
    (vectors::WAKE, "WAK", "Wake-ups from a halt"),
    (vectors::REST, "RST", "Ends of a rest"),
    (vectors::APIC_ERROR, "ERR", "Local APIC errors"),
    (vectors::MACHINE_CHECK, "MCE", "Machine check exceptions"),
];

/// Writes interrupts as /proc/interrupts does, with a column for each CPU. Lines of the IO-APIC
/// that have a count come first, then the other vectors.
pub(super) fn interrupts(f: &mut impl Write) -> fmt::Result {
    header(f, percpu::online())?;
    let taken = |vector| {
        percpu::online()
            .filter_map(percpu::get)
            .map(move |block| block.taken(vector))
    };
    let sci = arch::tables().map(|tables| tables.fadt.sci_gsi);
    for line in 0..vectors::GSI_COUNT {
        let vector = vectors::GSI_BASE + line;
        if taken(vector).any(|count| count > 0) {
            let device = match line {
                3 => "COM2",
                4 => "COM1",
                _ if sci == Some(line.into()) => "acpi",
                _ => "",
            };
            let what = format_args!("IO-APIC {line:>3} {device}");
            row(f, line, taken(vector), what)?;
        }
    }
    for (vector, short, what) in NAMED {
        row(f, short, taken(vector), what)?;
    }
    Ok(())
}

fn header(f: &mut impl Write, cpus: impl Iterator<Item = CpuId>) -> fmt::Result {
    write!(f, "{:BEFORE_CPUS$}", "")?;
    for cpu in cpus {
        write!(f, "CPU{:<8}", cpu.0)?;
    }
    f.write_char('\n')
}

fn row(
    f: &mut impl Write,
    name: impl fmt::Display,
    counts: impl Iterator<Item = u32>,
    what: impl fmt::Display,
) -> fmt::Result {
    write!(f, "{name:>3}: ")?;
    for count in counts {
        write!(f, "{count:>10} ")?;
    }
    writeln!(f, "  {what}")
}

/// Writes every thread as ps does, with the state letters of ps.
pub(super) fn threads(f: &mut impl Write) -> fmt::Result {
    writeln!(f, " PID CPU S       TIME COMMAND")?;
    let mut result = Ok(());
    thread::for_each_thread(|info| {
        if result.is_ok() {
            result = one_thread(f, &info, info.id.number());
        }
    });
    result
}

fn one_thread(f: &mut impl Write, info: &ThreadInfo, number: u32) -> fmt::Result {
    let state = match info.state {
        State::Running | State::Ready => 'R',
        State::Blocked => 'S',
        State::Dead => 'Z',
        State::Free | State::New => 'N',
    };
    let ms = info.cpu_time_ns / 1_000_000;
    let (minutes, seconds, ms) = (ms / 60_000, ms / 1000 % 60, ms % 1000);
    writeln!(
        f,
        "{number:>4} {:>3} {state} {minutes:>3}:{seconds:02}.{ms:03} {}",
        info.cpu.0,
        info.name()
    )
}

/// Writes the slots that have a DIMM, or had one.
pub(super) fn dimms(f: &mut impl Write) -> fmt::Result {
    let mut shown = 0;
    for slot in 0..MAX_SLOTS {
        let view = hotplug::view(slot);
        if view.phase != SlotPhase::Empty || view.arrivals > 0 {
            let is_online = |section: SectionNo| mm::frames().zone_of(section.start()).is_some();
            dimm(f, slot, &view, is_online)?;
            shown += 1;
        }
    }
    if shown == 0 {
        writeln!(f, "no DIMM")?;
    }
    Ok(())
}

fn dimm(
    f: &mut impl Write,
    slot: usize,
    view: &SlotView,
    is_online: impl Fn(SectionNo) -> bool,
) -> fmt::Result {
    let phase = match view.phase {
        SlotPhase::Empty => "empty",
        SlotPhase::Online => "online",
        SlotPhase::Leaving => "leaving",
        SlotPhase::Refused => "online, last removal refused",
        SlotPhase::Failed => "not usable",
    };
    write!(f, "dimm{slot}: {phase}")?;
    if view.size_bytes > 0 {
        write!(f, ", {} MiB", view.size_bytes >> 20)?;
    }
    if let Some(zone) = view.zone {
        write!(f, ", {zone}")?;
    }
    if let Some(range) = view.range.filter(|range| !range.is_empty()) {
        let (first, end) = (
            SectionNo::containing(range.start).0,
            SectionNo::containing(range.end).0,
        );
        write!(
            f,
            ", {:#x}-{:#x}, sections {first}-{}",
            range.start.address(),
            range.end.address() - 1,
            end - 1,
        )?;
        // A DIMM that is online may have memory sections that were taken out by hand.
        for section in (first..end).map(SectionNo) {
            if !is_online(section) {
                write!(f, ", section {} offline", section.0)?;
            }
        }
    }
    if view.phase == SlotPhase::Refused
        && let Some(Obstacle::Frame { at, owner }) = view.obstacle
    {
        write!(f, ", in the way: frame {at} of {owner}")?;
    }
    writeln!(
        f,
        "; arrivals {}, removals {}",
        view.arrivals, view.removals
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::String;
    use tidemark_frames::{NodeId, Owner, OwnerKind, Pfn, PfnRange, ZoneId, ZoneKind};

    #[test]
    fn counts_stand_under_their_cpus() {
        let mut text = String::new();
        header(&mut text, [CpuId(0), CpuId(12)].into_iter()).unwrap();
        let what = format_args!("IO-APIC   4 COM1");
        row(&mut text, 4, [7, u32::MAX].into_iter(), what).unwrap();
        let expected =
            "           CPU0       CPU12      \n  4:          7 4294967295   IO-APIC   4 COM1\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_vector_is_named_once() {
        for (at, (vector, short, _)) in NAMED.iter().enumerate() {
            let earlier = &NAMED[..at];
            assert!(earlier.iter().all(|(v, s, _)| v != vector && s != short));
        }
    }

    #[test]
    fn a_dimm_is_one_line_with_its_sections() {
        let mut view = SlotView {
            phase: SlotPhase::Refused,
            zone: Some(ZoneId::new(NodeId(1), ZoneKind::Movable)),
            range: Some(PfnRange::new(Pfn(0x11_0000), Pfn(0x12_0000))),
            size_bytes: 256 << 20,
            arrivals: 1,
            removals: 2,
            obstacle: Some(Obstacle::Frame {
                at: Pfn(0x11_0005),
                owner: Owner::new(OwnerKind::Test, 3),
            }),
            ..SlotView::default()
        };
        let mut text = String::new();
        dimm(&mut text, 1, &view, |section| section.0 != 35).unwrap();
        assert_eq!(
            text,
            "dimm1: online, last removal refused, 256 MiB, node 1 Movable, 0x110000000-0x11fffffff, sections 34-35, section 35 offline, \
             in the way: frame 0x110005 of test 3; arrivals 1, removals 2\n"
        );
        view = SlotView {
            arrivals: 1,
            removals: 1,
            ..SlotView::default()
        };
        text.clear();
        dimm(&mut text, 0, &view, |_| true).unwrap();
        assert_eq!(text, "dimm0: empty; arrivals 1, removals 1\n");
    }
}
