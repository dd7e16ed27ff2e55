//! What of the kernel's state is to be shown.

use tidemark_wire::Topic;

/// Some topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topics(u8);

impl Topics {
    /// No topic.
    pub const NONE: Topics = Topics(0);

    /// Reads names with commas between them; nothing if one is unknown or empty.
    pub fn parse(list: &str) -> Option<Topics> {
        list.split(',').try_fold(Topics::NONE, |topics, name| {
            Topic::from_name(name).map(|topic| Topics(topics.0 | 1 << topic as u8))
        })
    }

    /// The topics, in the order of [`Topic::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Topic> {
        let has = move |topic: &Topic| self.0 >> *topic as u8 & 1 == 1;
        Topic::ALL.into_iter().filter(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_set_in_the_fixed_order() {
        let topics = Topics::parse("dimms,zoneinfo,dimms").unwrap();
        assert!(topics.iter().eq([Topic::Zoneinfo, Topic::Dimms]));
        assert_eq!(Topics::NONE.iter().next(), None);
        for bad in ["", ",", "zoneinfo,", "zoneinfo buddyinfo", "slabinfo"] {
            assert_eq!(Topics::parse(bad), None, "{bad}");
        }
    }
}
