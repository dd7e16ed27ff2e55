//! What the user asks for: a module a command.

pub mod bench;
pub mod cases;
pub mod demo;
pub mod lab;
pub mod mutants;
pub mod price;
pub mod shell;
pub mod suite;
