//! What the loader, the kernel and the host must say alike, and what a table of names is.
//!
//! Depends on nothing, so that everything may depend on it.
#![no_std]

pub mod exit_value;

/// Declares things that have names: an enum, and what is said of each, a row each.
///
/// A row is `Variant = "name", "what it is, in a line",`. That line is the variant's documentation;
/// comments before the row add to it.
///
/// ```
/// tidemark_facts::named! {
///     /// A tide.
///     #[derive(Clone, Copy, Debug, PartialEq, Eq)]
///     pub enum Tide {
///         Ebb = "ebb", "the water falls",
///         Flood = "flood", "the water rises",
///     }
/// }
/// assert_eq!(Tide::NAMES, ["ebb", "flood"]);
/// assert_eq!(Tide::ALL.map(Tide::says)[1], "the water rises");
/// assert_eq!(Tide::from_name("ebb").map(Tide::name), Some("ebb"));
/// assert_eq!(Tide::from_name("Ebb"), None);
/// ```
#[macro_export]
macro_rules! named {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $kind:ident {
            $($(#[$more:meta])* $variant:ident = $name:literal, $says:literal),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        $visibility enum $kind {
            $(
                #[doc = $says]
                #[doc = ""]
                $(#[$more])*
                $variant,
            )+
        }

        impl $kind {
            /// All of them, in the table's order.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Their names, in the same order.
            pub const NAMES: [&'static str; Self::ALL.len()] = [$($name),+];

            /// Returns the name: on command lines, in the log and in JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Returns what it is, in a line.
            pub const fn says(self) -> &'static str {
                match self {
                    $(Self::$variant => $says,)+
                }
            }

            /// Returns the one of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.name() == name)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    named! {
        /// A tide.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        enum Tide {
            Ebb = "ebb", "the water falls",
            /// Unless it is neap.
            #[default]
            HighWater = "high-water", "the water stands",
        }
    }

    #[test]
    fn a_row_is_a_variant_its_name_and_a_line_about_it() {
        assert_eq!(Tide::ALL, [Tide::Ebb, Tide::HighWater]);
        assert_eq!(Tide::NAMES, Tide::ALL.map(Tide::name));
        assert_eq!(Tide::NAMES, ["ebb", "high-water"]);
        assert_eq!(Tide::HighWater.says(), "the water stands");
        assert_eq!(Tide::default(), Tide::HighWater);
    }

    #[test]
    fn a_name_leads_back() {
        for tide in Tide::ALL {
            assert_eq!(Tide::from_name(tide.name()), Some(tide));
        }
        for unknown in ["", "eb", "Ebb", "HighWater"] {
            assert_eq!(Tide::from_name(unknown), None, "{unknown}");
        }
    }
}
