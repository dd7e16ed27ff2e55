//! Runs several guests at a time, where the host has cores for them.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

use anyhow::{Result, anyhow};

use crate::terminal::interrupt;

/// Number of guests that run at once, if the host has as many cores.
const AT_ONCE: usize = 2;

/// Runs a guest for each case, with the given number of cores for each. The results are in the
/// cases' order. After an interruption, the cases that have not begun are missing.
///
/// # Errors
/// A thread that ran a guest died.
pub fn run_each<C, F>(
    cases: &[C],
    cores_each: NonZero<usize>,
    run: impl Fn(C) -> Result<F> + Sync,
) -> Result<Vec<Result<F>>>
where
    C: Copy + Send,
    F: Send,
{
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let at_once = AT_ONCE.min(cores / cores_each).max(1);
    let queue: Mutex<VecDeque<(usize, C)>> =
        Mutex::new(cases.iter().copied().enumerate().collect());
    let results: Mutex<Vec<(usize, Result<F>)>> = Mutex::new(Vec::new());
    let next = || queue.lock().ok()?.pop_front();
    thread::scope(|scope| {
        for _ in 0..at_once.min(cases.len()) {
            // QEMU dies with the thread that started it, and that thread waits for QEMU.
            scope.spawn(|| {
                while let Some((number, case)) = next() {
                    if interrupt::requested() {
                        break;
                    }
                    let found = run(case);
                    if let Ok(mut results) = results.lock() {
                        results.push((number, found));
                    }
                }
            });
        }
    });
    let mut results = results
        .into_inner()
        .map_err(|_| anyhow!("a thread that ran a guest died"))?;
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, found)| found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_cases_and_one_that_fails_is_among_them() {
        let run = |case: u32| {
            // The first cases take longest.
            thread::sleep(std::time::Duration::from_millis(u64::from(20 - 4 * case)));
            match case {
                2 => Err(anyhow!("it cannot be run")),
                _ => Ok(10 * case),
            }
        };
        let results = run_each(&[0, 1, 2, 3, 4], NonZero::<usize>::MIN, run).unwrap();
        let results: Vec<Option<u32>> = results.into_iter().map(Result::ok).collect();
        assert_eq!(results, [Some(0), Some(10), None, Some(30), Some(40)]);
        let none = run_each(&[], NonZero::<usize>::MIN, run).unwrap();
        assert!(none.is_empty());
    }
}
