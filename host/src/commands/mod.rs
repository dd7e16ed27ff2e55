//! Does what the user asks for. Each command has a module; others hold what commands share.

pub mod bench;
pub mod cases;
pub mod demo;
pub mod lab;
pub mod linux;
pub mod mutants;
pub mod price;
pub mod shell;
pub mod suite;
