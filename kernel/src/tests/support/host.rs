//! What tests ask of the host.

use crate::{
    arch::context::Task,
    link::{self, LinkError},
};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tidemark_wire::Ask;

/// Whether a request went without an answer: the ones after it would only wait as long.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Why tests that need the host cannot run, if they cannot.
pub fn missing() -> Option<&'static str> {
    (!link::present() || SILENT.load(Relaxed)).then_some(crate::tests::NO_LINK)
}

/// Asks the host for something.
///
/// # Errors
///
/// [`LinkError`] if nobody answers; a refusal is an answer.
pub fn ask(task: &Task, ask: Ask) -> Result<bool, LinkError> {
    let answer = link::ask(task, ask);
    if let Err(LinkError::NoAnswer { .. }) = answer {
        SILENT.store(true, Relaxed);
    }
    answer
}
