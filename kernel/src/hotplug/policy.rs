//! The choice of the zone that a DIMM's frames go to.

use super::slot::MAX_SLOTS;

/// The zone kinds that a DIMM's frames may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineAs {
    /// Any request may use the frames, atomic ones included. Removal waits for unmovable frames.
    Normal,
    /// Only movable requests may use the frames, so removal can always empty the DIMM.
    Movable,
}

/// The facts about a slot that matter when a zone is chosen for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnlineSlot {
    /// Node of the DIMM.
    pub node: u8,
    /// The zone kind of its frames.
    pub kind: OnlineAs,
}

/// Chooses the zone kind for a DIMM that arrives: node 0 has one NORMAL DIMM, and every other one
/// is MOVABLE.
///
/// A DIMM that returns thus finds its old place. Atomic requests on node 0 have memory above 4 GiB
/// that can go away, which the demonstration needs.
pub fn default_policy(node: u8, online: &[Option<OnlineSlot>; MAX_SLOTS]) -> OnlineAs {
    let taken = OnlineSlot {
        node: 0,
        kind: OnlineAs::Normal,
    };
    if node == 0 && !online.contains(&Some(taken)) {
        OnlineAs::Normal
    } else {
        OnlineAs::Movable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dimm_of_node_0_is_normal_and_no_other() {
        let mut online = [None; MAX_SLOTS];
        assert_eq!(default_policy(1, &online), OnlineAs::Movable);
        assert_eq!(default_policy(0, &online), OnlineAs::Normal);
        online[0] = Some(OnlineSlot {
            node: 0,
            kind: OnlineAs::Normal,
        });
        assert_eq!(default_policy(0, &online), OnlineAs::Movable);
    }

    #[test]
    fn a_dimm_that_returns_finds_its_place() {
        let mut online = [None; MAX_SLOTS];
        online[1] = Some(OnlineSlot {
            node: 0,
            kind: OnlineAs::Movable,
        });
        assert_eq!(default_policy(0, &online), OnlineAs::Normal);
    }
}
