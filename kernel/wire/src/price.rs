//! The messages of a measurement of a protocol's price.

use serde::{Deserialize, Serialize};

tidemark_facts::named! {
    /// A context in which requests are made, in the order of the table.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[repr(u8)]
    pub enum PriceContext {
        Task = "task", "threads, whose requests may reclaim",
        Irq = "irq", "hard interrupt handlers, whose requests are atomic",
        Nmi = "nmi", "NMI handlers, whose requests are atomic",
    }
}

/// What happened to the requests of one context while lists were rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceRow {
    /// The context that made the requests.
    pub context: PriceContext,
    /// Whether readers that met a rebuild were held until its end.
    pub stalled: bool,
    /// Number of rebuilds meanwhile; every other one removes a zone.
    pub rebuilds: u64,
    /// Number of requests made.
    pub requests: u64,
    /// Number of those that overlapped a rebuild.
    pub overlapped: u64,
    /// Number of those that failed and whose second request, made at once, was served. This is the
    /// price.
    pub failed: u64,
    /// Number of failures whose second request failed as well, or that overlapped no rebuild,
    /// because memory was short.
    pub short: u64,
    /// How often requests began, or walked, again because the lists had changed.
    pub retries: u64,
    /// Number of requests that were not made because they would never have ended. Their reader
    /// would wait for the writer that it has interrupted.
    pub left_out: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, MAX_FRAME_BYTES, ToHost, encode};

    #[test]
    fn contexts_are_numbered_in_order() {
        for (number, context) in PriceContext::ALL.into_iter().enumerate() {
            assert_eq!(context as usize, number);
        }
    }

    #[test]
    fn the_longest_row_fits_a_frame_and_comes_back() {
        let sent = ToHost::Price(PriceRow {
            context: PriceContext::Nmi,
            stalled: true,
            rebuilds: u64::MAX,
            requests: u64::MAX,
            overlapped: u64::MAX,
            failed: u64::MAX,
            short: u64::MAX,
            retries: u64::MAX,
            left_out: u64::MAX,
        });
        let mut buffer = [0; MAX_FRAME_BYTES];
        let frame = encode(&sent, &mut buffer).unwrap();
        let mut decoder = Decoder::new();
        let mut got = None;
        for &byte in frame.iter() {
            got = got.or(decoder.push::<ToHost>(byte));
        }
        assert_eq!(got, Some(Ok(sent)));
    }
}
