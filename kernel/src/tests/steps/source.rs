//! Where the steps are, read from the sources when the kernel is compiled.

/// A file's name and the lines that begin with `step!(`, counted from 1.
macro_rules! source {
    ($file:literal) => {{
        const TEXT: &[u8] = include_str!(concat!("../../../frames/src/", $file)).as_bytes();
        const STEPS: [u32; count(TEXT)] = lines(TEXT);
        (concat!("kernel/frames/src/", $file), &STEPS)
    }};
}

/// The files that have steps, with the lines of those.
pub(super) const SOURCES: &[(&str, &[u32])] = &[
    source!("alloc/fast.rs"),
    source!("alloc/hot.rs"),
    source!("cache/inside.rs"),
    source!("cache/one.rs"),
    source!("cache/pcp.rs"),
    source!("cache/batch.rs"),
    source!("cache/blocks.rs"),
    source!("zone/search.rs"),
    source!("cache/free.rs"),
    source!("alloc/bulk.rs"),
    source!("zone/free_huge.rs"),
    source!("zone/counter.rs"),
    source!("alloc/steal.rs"),
    source!("zone/high_atomic.rs"),
    source!("alloc/compact.rs"),
    source!("zone/evict.rs"),
];

/// The file whose steps only a zone with a reserve has.
pub(super) const RESERVE: &str = "kernel/frames/src/zone/high_atomic.rs";

/// Whether a line that begins at `at` is a step.
const fn is_step(text: &[u8], mut at: usize) -> bool {
    while at < text.len() && text[at] == b' ' {
        at += 1;
    }
    let step = b"step!(";
    let mut index = 0;
    while index < step.len() {
        if at + index >= text.len() || text[at + index] != step[index] {
            return false;
        }
        index += 1;
    }
    true
}

const fn count(text: &[u8]) -> usize {
    let (mut at, mut steps) = (0, 0);
    while at < text.len() {
        if (at == 0 || text[at - 1] == b'\n') && is_step(text, at) {
            steps += 1;
        }
        at += 1;
    }
    steps
}

const fn lines<const STEPS: usize>(text: &[u8]) -> [u32; STEPS] {
    let mut lines = [0; STEPS];
    let (mut at, mut line, mut steps) = (0, 1, 0);
    while at < text.len() {
        if (at == 0 || text[at - 1] == b'\n') && is_step(text, at) {
            lines[steps] = line;
            steps += 1;
        }
        if text[at] == b'\n' {
            line += 1;
        }
        at += 1;
    }
    lines
}
