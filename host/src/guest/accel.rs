//! Chooses how QEMU runs a guest on this machine.

use crate::terminal::cli::Accel;
use crate::terminal::console::say;

/// Returns KVM if it was asked for and can run a guest here, otherwise TCG.
pub fn usable(accel: Accel) -> Accel {
    match (accel, kvm_obstacle()) {
        (Accel::Kvm, Some(obstacle)) => {
            say(format!("tidemark: no KVM here ({obstacle}): TCG instead"));
            Accel::Tcg
        }
        (Accel::Kvm, None) => {
            say("tidemark: nobody has tried KVM yet: results are untested");
            Accel::Kvm
        }
        (accel @ (Accel::Tcg | Accel::Counted), _) => accel,
    }
}

/// Returns why KVM cannot run here, if it cannot. The device may exist on a processor that cannot
/// use it.
fn kvm_obstacle() -> Option<&'static str> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let virtualises = cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| {
            line.split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        });
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    match (virtualises, device) {
        (false, _) => Some("the processor shows neither vmx nor svm"),
        (_, Err(_)) => Some("/dev/kvm cannot be opened"),
        (true, Ok(_)) => None,
    }
}
