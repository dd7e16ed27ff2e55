//! The report of an out-of-memory: the requester, what each zone has left, and the tasks that could
//! be killed.

use super::super::report::{Size, ZoneLine};
use crate::arch::CpuId;
use crate::thread::State;
use core::fmt;
use tidemark_frames::{ORDERS, ZoneInfo};

/// A task whose memory may be taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLine {
    /// Name of its memory.
    pub name: &'static str,
    /// Frames that it holds.
    pub held_frames: usize,
    /// Whether it has been killed and has not freed everything yet.
    pub killed: bool,
    /// Its thread, if the thread is known and alive.
    pub thread: Option<Holder>,
}

/// The thread of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number in logs.
    pub number: u32,
    /// Its CPU.
    pub cpu: CpuId,
    /// What the thread does.
    pub state: State,
}

impl TaskLine {
    /// The heading above the lines of tasks.
    const HEADER: &str = "thread  cpu  state    held frames  name";
}

impl fmt::Display for TaskLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.thread {
            Some(thread) => write!(
                f,
                "{:>6}  {:>3}  {:<7}",
                thread.number,
                thread.cpu.0,
                state_name(thread.state)
            )?,
            None => write!(f, "{:>6}  {:>3}  {:<7}", "-", "-", "ended")?,
        }
        write!(f, "  {:>11}  {}", self.held_frames, self.name)?;
        if self.killed {
            f.write_str(", killed before")?;
        }
        Ok(())
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Free | State::New => "new",
        State::Ready => "ready",
        State::Running => "running",
        State::Blocked => "blocked",
        State::Dead => "ended",
    }
}

/// Writes the state of the zones: for each a line of watermarks, and one of free blocks by order.
pub fn write_zones(
    out: &mut dyn fmt::Write,
    zones: impl Iterator<Item = (ZoneInfo, [u64; ORDERS])>,
) -> fmt::Result {
    for (zone, blocks) in zones {
        writeln!(out, "{}", ZoneLine(&zone))?;
        write!(out, "{}: free blocks", zone.id)?;
        for (order, count) in blocks.iter().enumerate() {
            write!(out, " {count}*{}", Size(1 << order))?;
        }
        let [dma, dma32, normal, movable] = zone.reserve;
        writeln!(
            out,
            "; in caches {}, high-atomic {}, protection ({dma}, {dma32}, {normal}, {movable})",
            zone.cached, zone.high_atomic
        )?;
    }
    Ok(())
}

/// Writes the tasks that may be killed, in the order of their registration.
pub fn write_tasks(out: &mut dyn fmt::Write, tasks: impl Iterator<Item = TaskLine>) -> fmt::Result {
    writeln!(out, "tasks that may be killed:")?;
    writeln!(out, "{}", TaskLine::HEADER)?;
    for task in tasks {
        writeln!(out, "{task}")?;
    }
    Ok(())
}

/// Writes the line that names the victim.
pub fn write_victim(out: &mut dyn fmt::Write, victim: &TaskLine) -> fmt::Result {
    write!(out, "out of memory: killed ")?;
    if let Some(thread) = &victim.thread {
        write!(out, "thread {} ", thread.number)?;
    }
    write!(
        out,
        "({}), which held {}",
        victim.name,
        Size(victim.held_frames as u64)
    )
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::String;
    use tidemark_frames::{NodeId, Pfn, PfnRange, ZoneId, ZoneKind};

    const VICTIM: TaskLine = TaskLine {
        name: "hog",
        held_frames: 512,
        killed: false,
        thread: Some(Holder {
            number: 70,
            cpu: CpuId(3),
            state: State::Blocked,
        }),
    };

    #[test]
    fn the_report_names_zones_free_blocks_tasks_and_the_victim() {
        let zone = ZoneInfo {
            id: ZoneId::new(NodeId(1), ZoneKind::Normal),
            free: 1_031,
            cached: 5,
            min: 1_763,
            low: 2_545,
            high: 3_327,
            managed: 65_536,
            present: 65_536,
            reserve: [0, 0, 0, 1_024],
            high_atomic: 512,
            span: PfnRange::new(Pfn(0), Pfn(65_536)),
        };
        let mut text = String::new();
        let blocks = [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        write_zones(&mut text, [(zone, blocks)].into_iter()).unwrap();
        let ended = TaskLine {
            name: "gone",
            held_frames: 0,
            killed: true,
            thread: None,
        };
        write_tasks(&mut text, [VICTIM, ended].into_iter()).unwrap();
        write_victim(&mut text, &VICTIM).unwrap();
        let expected = "\
node 1 Normal   256 MiB:    1036 of   65536 frames free, watermarks min 1763 low 2545 high 3327
node 1 Normal: free blocks 7*4 KiB 0*8 KiB 0*16 KiB 0*32 KiB 0*64 KiB 0*128 KiB 0*256 KiB 0*512 KiB \
0*1024 KiB 0*2048 KiB 1*4 MiB; in caches 5, high-atomic 512, protection (0, 0, 0, 1024)
tasks that may be killed:
thread  cpu  state    held frames  name
    70    3  blocked          512  hog
     -    -  ended              0  gone, killed before
out of memory: killed thread 70 (hog), which held 2048 KiB";
        assert_eq!(text, expected);
    }
}
