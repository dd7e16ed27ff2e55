//! Runs a case that is one run, on the machine that such cases share.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tidemark_frames::Variant;
use tidemark_wire::{Plant, Pressure};

use crate::guest::build::Built;
use crate::guest::machine::Machine;
use crate::guest::options::{Mode, Options};
use crate::guest::record::Record;
use crate::guest::run::{Spec, run};
use crate::judge::verdict::{Expectation, Verdict};
use crate::terminal::cli::Accel;
use crate::terminal::console::Console;
use crate::terminal::release::Zonelist;

/// One run on the machine that cases share.
pub struct Trial {
    pub mode: Mode,
    pub zonelist: Variant,
    pub plant: Option<Plant>,
    /// The image that is booted instead of the kernel.
    pub kernel_image: Option<PathBuf>,
}

impl Trial {
    /// Runs the case and judges it, from what was expected, what was recorded, and the guest's log.
    /// Log and verdict go to `--log`, below the case's name.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn run(
        self,
        name: &str,
        accel: Accel,
        built: &Built,
        console: &mut Console,
        judge: impl FnOnce(&Expectation, &Record, &[String]) -> Verdict,
    ) -> Result<(Verdict, Vec<String>)> {
        let machine = Machine::usual(4, accel);
        let expected = Expectation {
            cycles: match self.mode {
                Mode::Demo { cycles, .. } => cycles,
                _ => 0,
            },
            dimms: machine.dimms(),
            cpus: machine.cpus,
            zonelist: Zonelist::of(self.zonelist),
            pressure: match self.mode {
                Mode::Demo { pressure, .. } => pressure,
                _ => Pressure::Even,
            },
        };
        let options = Options {
            plant: self.plant,
            ..Options::new(self.mode, self.zonelist)
        };
        let spec = Spec {
            kernel_image: self.kernel_image,
            ..Spec::new(machine, options, built)
        };
        console.write_log(&format!("# {name}"));
        let mut log = Vec::new();
        let record = run(&spec, |line| {
            console.write_log(line);
            log.push(line.to_owned());
        })?;
        let verdict = judge(&expected, &record, &log);
        let took = Duration::from_millis(record.wall.as_millis() as u64);
        console.write_log(&format!("# {name}: {verdict:?} after {took:?}"));
        Ok((verdict, log))
    }
}
