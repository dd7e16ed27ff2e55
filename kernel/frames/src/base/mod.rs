//! Types that the rest of the crate uses: numbers, requests, owners, the platform.

pub(crate) mod cpuset;
pub(crate) mod handle;
pub(crate) mod mistake;
pub(crate) mod mutant;
pub(crate) mod outcome;
pub(crate) mod owner;
pub(crate) mod pin;
pub(crate) mod platform;
pub(crate) mod request;
pub(crate) mod resizing;
pub(crate) mod types;
