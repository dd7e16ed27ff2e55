//! Tests the shell and `--dump` from end to end, by running this program again with a pipe.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::commands::cases::run_cases;
use crate::judge::tally::Tally;
use crate::terminal::console::Console;

/// One run of this program.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    /// The contents of the pipe.
    typed: &'static str,
    code: i32,
    /// Texts that the output must contain, in this order.
    wanted: &'static [&'static str],
}

const CASES: [Case; 2] = [
    Case {
        name: "shell/session",
        arguments: &["shell", "--cpus", "2", "--memory", "512M"],
        typed: "help\nhelp alloc\nzoneinfo\nbuddyinfo\nmeminfo\ninterrupts\nnonsense\n\
            read 300\ndrop\nread\nalloc 3 ATOMIC|DMA32\nalloc 0 KERNEL 1\nalloc\nfree 1\nfree 1\n\
            offline 34\ndimms\npull 1\nonline 34\npull 1\nplug 1\ndimms\n\
            alloc 0 MOVABLE 1\npull 1\nfree 3\npull 1\n",
        code: 0,
        wanted: &[
            "tidemark> help\n",
            "frees everything, checks the allocator's books, ends\n",
            "help COMMAND says more about one\n",
            "tidemark> help alloc\nalloc [ORDER [FLAGS] [NODE]]: allocates 2^ORDER pages",
            "example: alloc 3 ATOMIC|DMA32 1\n",
            "tidemark> zoneinfo\nNode 0, zone      DMA\n  pages free ",
            "        managed  ",
            "              batch: ",
            "tidemark> buddyinfo\nNode 0, zone      DMA ",
            "tidemark> meminfo\nMemTotal: ",
            " kB\nMemFree: ",
            "tidemark> interrupts\n           CPU0       CPU1",
            "Local timer interrupts\n",
            "tidemark> nonsense\nunknown command \"nonsense\": help lists the commands\n",
            "300 pages of the file read: 0 were in memory and right, 300 filled; 300 in memory now\n",
            "300 pages dropped\n",
            " pages of the file read: 0 were in memory and right, ",
            "handle 1: order 3, frame 0x",
            " DMA32, GFP_ATOMIC|DMA32\n",
            "handle 2: order 0, frame 0x",
            "tidemark> alloc\nhandle 1: order 3, ",
            "handle 2: order 0, ",
            "tidemark> free 1\nhandle 1: 8 pages freed\n",
            "tidemark> free 1\nno handle 1: alloc alone lists them\n",
            "section 34 left node 1 Movable: 32768 pages",
            "sections 34-35, section 34 offline; arrivals 1",
            "section 34 of dimm1 is offline: online 34 brings it back first\n",
            "section 34 joined node 1 Movable: 32768 pages",
            "dimm1 is gone: ",
            "confirmed by QEMU\n",
            "dimm1 joined node 1 Movable: 65536 pages",
            "sections 34-35; arrivals 2, removals 1\n",
            "handle 3: order 0, frame 0x",
            ", node 1 Movable, GFP_KERNEL|MOVABLE\n",
            "dimm1 stays: handle 3 (frame 0x",
            "handle 3: 1 page freed\n",
            "dimm1 is gone: ",
            "tidemark> exit\nfreed what 1 handle stood for\nvalidate: ok, ",
        ],
    },
    Case {
        name: "shell/dump",
        arguments: &[
            "test",
            "boot",
            "--cpus",
            "1",
            "--nodes",
            "1",
            "--memory",
            "48M",
            "--dump",
            "meminfo,buddyinfo",
        ],
        typed: "",
        code: 0,
        wanted: &[
            "--- buddyinfo\nNode 0, zone      DMA ",
            "--- end of buddyinfo\n--- meminfo\nMemTotal: ",
            "--- end of meminfo\n",
        ],
    },
];

/// Runs the cases whose name contains the pattern.
///
/// # Errors
/// This program cannot be run again.
pub fn run_all(pattern: Option<&str>, console: &mut Console) -> Result<Tally> {
    let cases = CASES.iter().map(|case| (case.name.to_owned(), case));
    let part = ("shell", "sessions through a pipe, and --dump");
    run_cases(part, pattern, cases, |name, case| {
        let (code, output) = run(case)?;
        console.write_log(&format!("# {name}"));
        for line in output.lines() {
            console.write_log(line);
        }
        Ok(check(case, code, &output))
    })
}

fn run(case: &Case) -> Result<(Option<i32>, String)> {
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let mut child = Command::new(program)
        .args(case.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("this program cannot be run again")?;
    // The pipe is dropped at the end of the statement, which ends the input. The input is short, so
    // a pipe takes it at once.
    let mut pipe = child.stdin.take().context("the child has no input")?;
    pipe.write_all(case.typed.as_bytes())
        .context("nothing can be typed")?;
    drop(pipe);
    let output = child.wait_with_output().context("no output")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.code(), text))
}

fn check(case: &Case, code: Option<i32>, output: &str) -> Result<(), String> {
    let mut rest = output;
    for wanted in case.wanted {
        let Some(at) = rest.find(wanted) else {
            let before: Vec<&str> = output[..output.len() - rest.len()].lines().collect();
            let last = before.last().unwrap_or(&"the beginning");
            return Err(format!("no {wanted:?} after {last:?}"));
        };
        rest = &rest[at + wanted.len()..];
    }
    match code {
        Some(code) if code == case.code => Ok(()),
        code => Err(format!("exit code {code:?} instead of {}", case.code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case {
        name: "x",
        arguments: &[],
        typed: "",
        code: 0,
        wanted: &["a\n", "b"],
    };

    #[test]
    fn order_presence_and_exit_code_count() {
        assert_eq!(check(&CASE, Some(0), "a\nxb"), Ok(()));
        assert!(check(&CASE, Some(0), "b a\n").is_err());
        assert!(
            check(&CASE, Some(0), "a\n")
                .unwrap_err()
                .contains("no \"b\"")
        );
        assert!(check(&CASE, Some(1), "a\nb").unwrap_err().contains("exit"));
        assert!(check(&CASE, None, "a\nb").is_err());
    }
}
