//! Puts a step of a trace into words.

use tidemark_frames::{Readers, Variant};
use tidemark_wire::{
    AtCounter, EntryRead, LabPoint, LabStep, ListNow, Stay, WaitsFor, ZoneName, ZoneNow,
};

/// The way in which a variant writes lists, which gives the points of a rebuild their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// In place, between two steps of a counter that readers look at.
    Counted,
    /// In place, without a counter.
    Uncounted,
    /// Beside the old lists, which are then replaced.
    Beside,
}

impl Writes {
    /// How a variant writes.
    pub fn of(variant: Variant) -> Self {
        let rules = variant.rules();
        match (rules.writes, rules.looks) {
            (tidemark_frames::Writes::Beside, _) => Self::Beside,
            (_, Readers::Nobody) => Self::Uncounted,
            _ => Self::Counted,
        }
    }
}

fn parity(counter: u64) -> &'static str {
    if counter % 2 == 1 { "odd" } else { "even" }
}

fn zone(kind: u64) -> &'static str {
    ["DMA", "DMA32", "Normal", "Movable"]
        .get(kind as usize)
        .unwrap_or(&"?")
}

fn awaited(stay: u64) -> &'static str {
    match Stay::unpack(stay).map(|stay| stay.until) {
        Some(LabPoint::SlowWalk) => "the reader has its start",
        Some(LabPoint::SlowWalked) => "the reader's walk is over",
        Some(LabPoint::WalkEntry) => "the reader is inside an entry",
        Some(LabPoint::OfflineLeft) => "the frames have left",
        Some(LabPoint::OfflineDone) => "the offline is done",
        Some(LabPoint::OnlineCounted) => "the frames have arrived",
        Some(LabPoint::OnlineDone) => "the online is done",
        Some(LabPoint::RebuildEntry) => "a list is half written",
        Some(LabPoint::NoteEntry) => "the hot path is inside an entry",
        Some(LabPoint::Got) => "the reader is served",
        Some(LabPoint::GraceBegin) => "the writer wants this CPU",
        Some(LabPoint::GraceWait) => "the rebuild waits",
        Some(LabPoint::PortLocked) => "the reader has the port",
        Some(LabPoint::PortWanted) => "the writer prints",
        Some(LabPoint::RebuildOdd) => "the rebuild has begun",
        Some(LabPoint::Spins) => "the reader meets the counter",
        Some(LabPoint::Fed) => "the cache has pages",
        Some(point) => point.name(),
        None => "?",
    }
}

/// Returns a step in words.
pub fn text(step: &LabStep, writes: Writes) -> String {
    let LabStep { point, detail, .. } = *step;
    let counter = u64::from(AtCounter::unpack(detail).counter);
    match point {
        LabPoint::RebuildOdd => match writes {
            Writes::Counted => format!("rebuild: counter = {detail}, {}", parity(detail)),
            Writes::Uncounted => "rebuild: begins".to_owned(),
            Writes::Beside => "rebuild: about to publish".to_owned(),
        },
        LabPoint::RebuildEntry if writes == Writes::Beside => {
            "rebuild: entries of spare lists".to_owned()
        }
        LabPoint::RebuildEntry => "rebuild: entries: zone, index".to_owned(),
        LabPoint::RebuildEven if writes == Writes::Beside => {
            "rebuild: new lists are published".to_owned()
        }
        LabPoint::RebuildEven => "rebuild: lists are written".to_owned(),
        LabPoint::RebuildPublished => "rebuild: new lists published".to_owned(),
        LabPoint::GraceBegin => "asks for a grace period".to_owned(),
        LabPoint::GraceWait => "waits for readers of old lists".to_owned(),
        LabPoint::AnnotateBegin => "lock validator: writer begins".to_owned(),
        LabPoint::AnnotateEnd => "lock validator: writer ends".to_owned(),
        LabPoint::SlowBegin if writes == Writes::Counted => {
            format!("slow path: counter = {counter}, {}", parity(counter))
        }
        LabPoint::SlowBegin => "slow path".to_owned(),
        LabPoint::SlowWalk => "walks from its preferred entry".to_owned(),
        LabPoint::SlowWalked => "finds nothing".to_owned(),
        LabPoint::SlowRetry => "retry: a round begins".to_owned(),
        LabPoint::SlowCheckOom if writes == Writes::Counted => {
            format!("OOM next: counter = {counter}")
        }
        LabPoint::SlowCheckOom => "OOM next".to_owned(),
        LabPoint::SlowCheckNopage if writes == Writes::Counted => {
            format!("nopage: counter = {counter}")
        }
        LabPoint::SlowCheckNopage => "nopage".to_owned(),
        LabPoint::WalkEntry if writes == Writes::Beside => "entries, one word each".to_owned(),
        LabPoint::WalkEntry => "entries: index, zone".to_owned(),
        LabPoint::NoteEntry if writes == Writes::Beside => {
            "hot path: an entry, one word".to_owned()
        }
        LabPoint::NoteEntry => "hot path: an entry: index, zone".to_owned(),
        LabPoint::FirstNoted => format!("hot path: remembers {}", ZoneName(detail as u8)),
        LabPoint::OfflineIsolated => "offline: isolated".to_owned(),
        LabPoint::OfflineScanned => "offline: scanned".to_owned(),
        LabPoint::OfflineLeft => "offline: the frames have left".to_owned(),
        LabPoint::OfflineDone => "offline: done".to_owned(),
        LabPoint::AsksToPull => "asks the host: QMP device_del".to_owned(),
        LabPoint::AsksToPlug => "asks the host: QMP device_add".to_owned(),
        LabPoint::SlotLeaves => "SCI, hot-plug thread: DIMM leaves".to_owned(),
        LabPoint::SlotArrives => "SCI, hot-plug thread: DIMM is there".to_owned(),
        LabPoint::OnlineCounted => "online: the frames are counted".to_owned(),
        LabPoint::OnlineDone => "online: done, frames to take".to_owned(),
        LabPoint::Start => format!("{} begins", step.role.name()),
        LabPoint::End => format!("{} is done", step.role.name()),
        LabPoint::Request => match detail {
            0 | 1 => "alloc(GFP_KERNEL)",
            2 => "alloc(GFP_KERNEL), PF_MEMALLOC",
            3 => "alloc(GFP_ATOMIC)",
            4 => "alloc(GFP_ATOMIC|__GFP_MOVABLE)",
            _ => "alloc(GFP_KERNEL|GFP_DMA)",
        }
        .to_owned(),
        LabPoint::Got => format!("= a {} frame", zone(detail)),
        LabPoint::Failed if detail == 1 => "= nothing, with memory free".to_owned(),
        LabPoint::Failed => "= nothing".to_owned(),
        LabPoint::OomDeclared if detail == 1 => "OOM, with memory free".to_owned(),
        LabPoint::OomDeclared => "OOM".to_owned(),
        LabPoint::Spins => format!("counter = {detail}, {}: spins", parity(detail)),
        LabPoint::GaveUp => "(the lab ends the spin)".to_owned(),
        LabPoint::Held => format!("(held until {})", awaited(detail)),
        LabPoint::Released => "(goes on)".to_owned(),
        LabPoint::TimedOut => format!("(held in vain for {})", awaited(detail)),
        LabPoint::IrqRaised => "<- interrupt for this CPU".to_owned(),
        LabPoint::IrqPending => "   IRQs are off: pending in IRR".to_owned(),
        LabPoint::IrqTaken if detail == 1 => "<COM1 interrupt>".to_owned(),
        LabPoint::IrqTaken => "<interrupt>".to_owned(),
        LabPoint::IrqOver => "</interrupt>".to_owned(),
        LabPoint::NmiSent => "<- NMI for this CPU".to_owned(),
        LabPoint::NmiTaken => "<NMI>".to_owned(),
        LabPoint::NmiOver => "</NMI>".to_owned(),
        LabPoint::MemoryFreed => format!("{detail} Normal frames come free"),
        LabPoint::Print => "printk()".to_owned(),
        LabPoint::PrintStored => "deferred: stored for later".to_owned(),
        LabPoint::PortWanted => "wants the port's lock".to_owned(),
        LabPoint::PortLocked => "has the port's lock".to_owned(),
        LabPoint::PortFreed => "frees the port's lock".to_owned(),
        LabPoint::Fed => format!("{detail} pages cached, reclaimable"),
        LabPoint::Act => String::new(),
        LabPoint::Hang => "*** HANG, says the watchdog ***".to_owned(),
        LabPoint::EntryRead => {
            let EntryRead { at, index, zone } = EntryRead::unpack(detail);
            format!("entry {at}: index {index}, {zone}")
        }
        LabPoint::WaitsFor => format!("({})", WaitsFor::unpack(detail)),
        LabPoint::GoesRound => format!("*** GOES ROUND: {detail} begins ***"),
        LabPoint::Kept => format!("keeps frame {detail}"),
        LabPoint::PullRefused => format!("pull: refused, frame {detail} is in use"),
        LabPoint::PullDone => "pull: the DIMM has left".to_owned(),
        LabPoint::GivenBack => format!("gives frame {detail} back"),
        LabPoint::ListNow => {
            let zones = ListNow::unpack(detail).0;
            let names: Vec<String> = zones.iter().flatten().map(ToString::to_string).collect();
            format!("list of node 1: {}", names.join(", "))
        }
        LabPoint::ZoneNow => {
            let ZoneNow {
                zone,
                free,
                min,
                low,
            } = ZoneNow::unpack(detail);
            format!("{zone}: {free} frames free, MIN {min}, LOW {low}")
        }
        LabPoint::HungAt => format!("at {detail:#x}"),
    }
}
