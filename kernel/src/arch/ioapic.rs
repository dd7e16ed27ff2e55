//! The IO-APICs and the legacy controllers that they replace.
