//! Builds the module for a kernel, with the headers that were fetched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::ready::{Ready, find};
use super::tools::{self, command, run};
use super::trouble::{Outcome, Trouble, refuse};

/// The programs of the headers that run on this machine. Some releases have a front for each, which
/// runs the one for the target.
pub const TOOLS: [&str; 4] = [
    "modpost",
    "modpost.real-lsb-64",
    "objtool",
    "objtool.real-x86",
];
/// The name of the module's file.
pub const FILE: &str = "zonelist_lab.ko";

/// Lists our sources, which the module and the initrd are made of.
///
/// # Errors
/// The folder cannot be read.
pub fn source_files() -> Outcome<Vec<PathBuf>> {
    let folder = tools::sources().join("module");
    let list = fs::read_dir(&folder).map_err(|error| Trouble::of_file("read", &folder, &error))?;
    let mut files: Vec<PathBuf> = list.flatten().map(|entry| entry.path()).collect();
    files.extend(["cc", "init", "hog.c"].map(|name| tools::sources().join(name)));
    files.sort();
    Ok(files)
}

/// Returns whether a program of the headers can run here. It cannot with an older C library.
pub fn runs(program: &Path) -> bool {
    match command(program).arg("--help").output() {
        Ok(output) => !String::from_utf8_lossy(&output.stderr).contains("GLIBC_"),
        Err(_) => false,
    }
}

/// Builds the module. What is built lies in `build` below the kernel's folder.
///
/// # Errors
/// The compiler refuses it; the line has the first error.
pub fn build(ready: &Ready) -> Outcome<PathBuf> {
    let build = ready.folder.join("build");
    let _ = fs::remove_dir_all(&build);
    tools::create(&build)?;
    let module = tools::sources().join("module");
    let list = fs::read_dir(&module).map_err(|error| Trouble::of_file("read", &module, &error))?;
    for file in list.flatten().map(|entry| entry.path()) {
        let to = build.join(file.file_name().unwrap_or_default());
        fs::copy(&file, &to).map_err(|error| Trouble::of_file("created", &to, &error))?;
    }
    let root = ready.folder.join("headers");
    let headers = root
        .join("usr/src")
        .join(format!("linux-headers-{}", ready.facts.release));
    place_headers(&headers, &root)?;
    wrap_tools(&ready.folder)?;
    let compiler = compiler(&headers);
    let mut make = command("make");
    make.arg("-C")
        .arg(&headers)
        .arg(format!("M={}", build.display()))
        .arg(format!("CC={}", tools::sources().join("cc").display()))
        .arg("modules")
        .env("LAB_CC", &compiler)
        // An outer make, and what cargo sets, must not reach this one.
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS");
    let what = format!("the module does not build for {}", ready.facts.release);
    let built = run(&mut make, &what).and_then(|_| {
        let file = build.join(FILE);
        if file.exists() {
            Ok(file)
        } else {
            refuse(format!("{what}: make left no {FILE}"))
        }
    });
    if built.is_err() {
        let _ = fs::remove_dir_all(&build);
    }
    built
}

/// Lets the headers find each other where they were unpacked. The module needs no BTF, which the
/// tools at hand may not be able to make; it is made only where the headers have a `vmlinux`.
fn place_headers(headers: &Path, root: &Path) -> Outcome<()> {
    let _ = fs::remove_file(headers.join("vmlinux"));
    let makefile = headers.join("Makefile");
    let text = tools::read(&makefile)?;
    let here = format!("{}/usr/src/", root.display());
    // The path may be ours of before the clone was moved.
    let placed: Vec<String> = text
        .lines()
        .map(|line| match line.rfind("/usr/src/") {
            Some(at) => {
                let begin = line[..at].rfind(|sign: char| sign.is_whitespace() || sign == '=');
                let begin = begin.map_or(0, |before| before + 1);
                format!(
                    "{}{here}{}\n",
                    &line[..begin],
                    &line[at + "/usr/src/".len()..]
                )
            }
            None => format!("{line}\n"),
        })
        .collect();
    tools::write(&makefile, &placed.concat())
}

/// Runs the tools of the headers by the C library that was fetched for them.
fn wrap_tools(folder: &Path) -> Outcome<()> {
    let Some(loader) = find(&folder.join("libraries"), "ld-linux-x86-64.so.2") else {
        return Ok(());
    };
    let Some(library) = find(&folder.join("libraries"), "libc.so.6") else {
        return refuse("the C library that was fetched has no libc.so.6");
    };
    let libraries = library.parent().unwrap_or(&library).display();
    for name in TOOLS {
        let Some(tool) = find(&folder.join("headers"), name) else {
            continue;
        };
        let mut real = tool.clone().into_os_string();
        real.push(".own-library");
        let real = PathBuf::from(real);
        // One that was wrapped is wrapped anew, because the clone may have been moved.
        if !real.exists() {
            if runs(&tool) {
                continue;
            }
            fs::rename(&tool, &real).map_err(|error| Trouble::of_file("renamed", &tool, &error))?;
        }
        let script = format!(
            "#!/bin/sh\nexec '{}' --library-path '{libraries}' '{}' \"$@\"\n",
            loader.display(),
            real.display()
        );
        tools::write(&tool, &script)?;
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))
            .map_err(|error| Trouble::of_file("made a program", &tool, &error))?;
    }
    Ok(())
}

/// Returns the compiler that the headers ask for if the machine has it, and `gcc` otherwise.
fn compiler(headers: &Path) -> String {
    let asked = fs::read_to_string(headers.join(".kernelvariables")).unwrap_or_default();
    let words = asked.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '-');
    let mut asked = words.filter(|word| word.starts_with("gcc-"));
    asked
        .find(|name| tools::find(name).is_some())
        .unwrap_or("gcc")
        .to_owned()
}
