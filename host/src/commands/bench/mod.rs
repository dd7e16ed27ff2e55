//! `tidemark bench`: the cost of the allocator, beside Linux and other crates.

mod baseline;
mod counts;
mod figure;
mod guest;
mod peers;
mod rebuild;
mod table;
mod times;

use anyhow::Result;

use crate::judge::json;
use crate::terminal::cli::{BenchArgs, Half};
use crate::terminal::console::say;
use table::Row;

/// Runs the benchmarks and returns the program's exit code.
///
/// # Errors
/// A tool is missing, something does not build, or a result cannot be written.
pub fn run(args: &BenchArgs) -> Result<i32> {
    json::prepare(args.output.json.as_deref())?;
    if !args.zonelist.is_empty() {
        return rebuild::run(&args.zonelist.concat(), &args.output);
    }
    let print = if args.markdown {
        table::print_markdown
    } else {
        table::print
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut code = 0;
    if args.only != Some(Half::Host) {
        let measured = guest::measure(&args.output)?;
        print("In the guest, one CPU", "Linux 6.1", &measured.rows);
        code = measured.exit_code;
        if args.update {
            baseline::write(&measured)?;
        } else {
            let compared = baseline::compare(&measured)?;
            compared.lines().iter().for_each(say);
            if args.check && compared.has_risen() {
                code = code.max(1);
            }
        }
        rows.extend(measured.rows);
    }
    if args.only != Some(Half::Guest) {
        let measured = peers::measure()?;
        let title = "On this machine, 1 GiB of frames";
        print(title, "best peer", &measured.rows);
        code = code.max(measured.exit_code);
        rows.extend(measured.rows);
    }
    if let Some(path) = &args.output.json {
        json::write(path, &table::json(&rows))?;
    }
    Ok(code)
}
