//! Which zone a DIMM's frames go to.

use super::slot::MAX_SLOTS;

/// The zone kinds that a DIMM's frames may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineAs {
    /// Any request may use the frames, atomic ones included; removal waits for unmovable frames.
    Normal,
    /// Movable requests only: removal can always empty it.
    Movable,
}

/// What is known of a slot when a zone is chosen for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnlineSlot {
    /// Node of the DIMM.
    pub node: u8,
    /// Where its frames went.
    pub kind: OnlineAs,
}

/// Chooses for a DIMM that arrives: node 0 has one NORMAL DIMM, every other one is MOVABLE.
///
/// So a DIMM that returns finds its old place, and atomic requests on node 0 have memory above 4
/// GiB that can go away, which is what the demonstration is about.
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
