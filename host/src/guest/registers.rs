//! Reads the registers of every CPU from the text that QEMU prints.

/// The state of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuState {
    pub cpu: u16,
    pub rip: u64,
    /// Whether the CPU waits in `hlt`.
    pub halted: bool,
    /// Whether the CPU has interrupts on.
    pub interrupts: bool,
    /// Whether the CPU has a table of interrupt handlers at all.
    pub has_idt: bool,
}

/// Reads the text of `info registers -a`.
pub fn parse_registers(text: &str) -> Vec<CpuState> {
    let mut states: Vec<CpuState> = Vec::new();
    let mut cpu = 0;
    for line in text.lines() {
        let line = line.trim();
        if let Some(number) = line.strip_prefix("CPU#") {
            cpu = number.parse().unwrap_or(0);
        }
        if let (Some(table), Some(state)) = (line.strip_prefix("IDT="), states.last_mut()) {
            let limit = table.split_whitespace().nth(1);
            state.has_idt = limit.is_none_or(|limit| !limit.trim_matches('0').is_empty());
        }
        let field = |name: &str| {
            let rest = line.split(name).nth(1)?;
            let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
            u64::from_str_radix(&digits, 16).ok()
        };
        if let Some(rip) = field("RIP=").or_else(|| field("EIP=")) {
            let flags = field("RFL=").or_else(|| field("EFL=")).unwrap_or(0);
            states.push(CpuState {
                cpu,
                rip,
                halted: field("HLT=") == Some(1),
                interrupts: flags & 0x200 != 0,
                has_idt: true,
            });
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\r
CPU#0\r
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000\r
R12=0000000000000000 R13=0000000000000000 R14=0000000000000000 R15=0000000000000000\r
RIP=ffffffff80001234 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r
\r
CPU#11\r
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000\r
RIP=ffffffff80004321 RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r
GDT=     ffff800000001000 0000004f\r
IDT=     ffff800000002000 00000fff\r
\r
CPU#2\r
RIP=ffffffff80004444 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r
GDT=     ffff800000001000 0000004f\r
IDT=     0000000000000000 00000000\r
";

    #[test]
    fn registers_of_every_cpu_are_read() {
        let states = parse_registers(DUMP);
        assert_eq!(
            states,
            [
                CpuState {
                    cpu: 0,
                    rip: 0xffff_ffff_8000_1234,
                    halted: true,
                    interrupts: true,
                    has_idt: true,
                },
                CpuState {
                    cpu: 11,
                    rip: 0xffff_ffff_8000_4321,
                    halted: false,
                    interrupts: false,
                    has_idt: true,
                },
                CpuState {
                    cpu: 2,
                    rip: 0xffff_ffff_8000_4444,
                    halted: false,
                    interrupts: true,
                    has_idt: false,
                },
            ]
        );
    }
}
