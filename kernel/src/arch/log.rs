//! What this folder says. The console is above it, and tells it where lines go.

use core::fmt;
use tidemark_sync::{Hook, hook};

/// Takes a text. Any context.
pub type Line = fn(fmt::Arguments<'_>);

static WARN: Hook<Line> = hook!(fn(fmt::Arguments<'_>));
static DEBUG: Hook<Line> = hook!(fn(fmt::Arguments<'_>));

/// Sets where warnings go, and details.
pub fn set(warn: Line, debug: Line) {
    WARN.set(warn);
    DEBUG.set(debug);
}

/// Says that something is wrong. Any context.
pub(super) fn warn(text: fmt::Arguments<'_>) {
    if let Some(line) = WARN.get() {
        line(text);
    }
}

/// Says a detail. Any context.
pub(super) fn debug(text: fmt::Arguments<'_>) {
    if let Some(line) = DEBUG.get() {
        line(text);
    }
}
