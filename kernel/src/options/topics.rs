//! What of the kernel's state can be shown, by name.

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Each zone's counters, watermarks, reserves and caches.
    Zoneinfo,
    /// Each zone's free blocks by order.
    Buddyinfo,
    /// Each node's fallback lists.
    Zonelists,
    /// The machine's memory and each node's.
    Meminfo,
    /// Interrupts by CPU.
    Interrupts,
    /// The threads.
    Threads,
    /// The slots for DIMMs.
    Dimms,
}

impl Topic {
    /// All topics, in the order in which they are dumped.
    pub const ALL: [Topic; 7] = [
        Topic::Zoneinfo,
        Topic::Buddyinfo,
        Topic::Zonelists,
        Topic::Meminfo,
        Topic::Interrupts,
        Topic::Threads,
        Topic::Dimms,
    ];

    /// The name: a command of the shell and a value of the option `dump`.
    pub const fn name(self) -> &'static str {
        match self {
            Topic::Zoneinfo => "zoneinfo",
            Topic::Buddyinfo => "buddyinfo",
            Topic::Zonelists => "zonelists",
            Topic::Meminfo => "meminfo",
            Topic::Interrupts => "interrupts",
            Topic::Threads => "threads",
            Topic::Dimms => "dimms",
        }
    }

    /// The topic of a name.
    pub fn named(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// Some topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topics(u8);

impl Topics {
    /// No topic.
    pub const NONE: Topics = Topics(0);

    /// Reads names with commas between them; nothing if one is unknown or empty.
    pub fn parse(list: &str) -> Option<Topics> {
        list.split(',').try_fold(Topics::NONE, |topics, name| {
            Topic::named(name).map(|topic| Topics(topics.0 | 1 << topic as u8))
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
    fn names_and_topics_are_one_to_one() {
        for topic in Topic::ALL {
            assert_eq!(Topic::named(topic.name()), Some(topic));
        }
        assert_eq!(Topic::ALL.map(Topic::name), tidemark_wire::TOPICS);
        assert_eq!(Topic::named("Zoneinfo"), None);
        assert_eq!(Topic::named(""), None);
    }

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
