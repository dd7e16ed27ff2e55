//! Rebuilds of the zonelists, and new policies, after zones have changed.

use crate::{base::resizing::Resizing, cache::cpu::PerCpu, frames::Frames};
use tidemark_sync::Task;

impl<P: PerCpu> Frames<'_, P> {
    pub(crate) fn lock_resizing(&self, task: &Task) -> Resizing<'_> {
        self.resizing_lock().lock(self.platform(), task)
    }

    /// Recomputes watermarks, reserves and cache sizes of every zone.
    pub(crate) fn refresh_policy(&self, resizing: &Resizing<'_>) {
        let cpus = self.caches().cpus().len();
        self.zone_table().refresh_policy(cpus, resizing);
    }

    /// Rebuilds the zonelists for the populated zones, by the protocol in force.
    pub(crate) fn rebuild_zonelists(&self, task: &Task, resizing: &Resizing<'_>) {
        self.lists().protocol().prepare(self.platform(), task);
        self.build_zonelists(resizing);
        self.lists().protocol().finish(self.platform(), task);
    }

    /// Builds the zonelists for the populated zones, without the protocol's steps before and after
    /// a rebuild. Boot calls it alone, when no request reads the lists yet.
    pub(crate) fn build_zonelists(&self, resizing: &Resizing<'_>) {
        self.lists()
            .build(self.zone_table(), || self.forget_firsts(resizing), resizing);
    }

    /// Rebuilds the zonelists although no zone has changed, for tests of their readers. Task
    /// context, interrupts on, no spinlock held.
    pub fn rebuild(&self, task: &Task) {
        let resizing = self.lock_resizing(task);
        self.rebuild_zonelists(task, &resizing);
    }
}
