//! Packs the initrd: busybox, the module, the drivers of the slow disk, the load.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::module;
use super::ready::{Ready, stamp};
use super::tools::{self, command, run};
use super::trouble::{Outcome, Trouble};
use crate::terminal::console::say;

/// The drivers of the slow disk. A kernel may have them built in.
pub const DRIVERS: [&str; 6] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
];

/// Builds the module and packs the initrd, unless both were made of the present sources.
///
/// # Errors
/// The module does not build, or a file cannot be written.
pub fn make(ready: &Ready) -> Outcome<()> {
    let stamp = stamp(&module::source_files()?)?;
    let stamp_file = ready.folder.join("made-of");
    let is_made = fs::read_to_string(&stamp_file).is_ok_and(|known| known == stamp);
    if is_made && ready.initrd().exists() {
        return Ok(());
    }
    say(format!("{}: building the module", ready.facts.release));
    let module = module::build(ready)?;
    let root = ready.folder.join("initrd");
    let packed = pack(ready, &module, &root);
    let _ = fs::remove_dir_all(&root);
    packed?;
    tools::write(&stamp_file, &stamp)
}

fn pack(ready: &Ready, module: &Path, root: &Path) -> Outcome<()> {
    let _ = fs::remove_dir_all(root);
    for folder in ["bin", "proc", "sys", "dev", "tmp", "mod"] {
        tools::create(&root.join(folder))?;
    }
    copy(&ready.folder.join("busybox"), &root.join("bin/busybox"))?;
    let busybox = root.join("bin/busybox");
    let list = run(command(&busybox).arg("--list"), "busybox does not run")?;
    for applet in list.lines().filter(|name| *name != "busybox") {
        let link = root.join("bin").join(applet);
        symlink("busybox", &link).map_err(|error| Trouble::of_file("created", &link, &error))?;
    }
    copy(&tools::sources().join("init"), &root.join("init"))?;
    let init = root.join("init");
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))
        .map_err(|error| Trouble::of_file("made a program", &init, &error))?;
    copy(module, &root.join(module::FILE))?;
    let stripped = root.join(module::FILE);
    run(
        command("strip").arg("--strip-debug").arg(stripped),
        "the module cannot be stripped",
    )?;
    for driver in DRIVERS {
        let from = ready.folder.join("modules").join(format!("{driver}.ko"));
        if from.exists() {
            copy(&from, &root.join("mod").join(format!("{driver}.ko")))?;
        }
    }
    run(
        command("gcc")
            .args(["-O2", "-static", "-o"])
            .arg(root.join("bin/hog"))
            .arg(tools::sources().join("hog.c")),
        "the load does not build",
    )?;
    let initrd: PathBuf = ready.initrd();
    let part = initrd.with_extension("part");
    let script =
        "set -e; find . | bin/busybox cpio -o -H newc 2>/dev/null | bin/busybox gzip -1 > \"$1\"";
    let packing = run(
        command("sh")
            .args(["-c", script, "sh"])
            .arg(&part)
            .current_dir(root),
        "the initrd cannot be packed",
    );
    if packing.is_err() {
        let _ = fs::remove_file(&part);
    }
    packing?;
    fs::rename(&part, &initrd).map_err(|error| Trouble::of_file("created", &initrd, &error))
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| Trouble::of_file("created", to, &error))
}
