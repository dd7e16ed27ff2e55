//! `tidemark bench`: what the allocator costs, beside Linux and other crates.

mod baseline;
mod guest;
mod table;

use anyhow::Result;

use crate::cli::BenchArgs;
use crate::console::say;
use crate::json;

/// Runs the benchmarks and returns the program's exit code.
///
/// # Errors
/// A tool is missing, something does not build, or a result cannot be written.
pub fn run(args: &BenchArgs) -> Result<i32> {
    let measured = guest::measure(&args.output)?;
    table::print("In the guest, one CPU", "Linux 6.1", &measured.rows);
    let mut code = measured.exit_code;
    if args.update {
        baseline::write(&measured)?;
    } else {
        let compared = baseline::compare(&measured)?;
        for line in compared.lines() {
            say(line);
        }
        if args.check && compared.has_risen() {
            code = code.max(1);
        }
    }
    if let Some(path) = &args.output.json {
        json::write(path, &table::json(&measured.rows))?;
    }
    Ok(code)
}
