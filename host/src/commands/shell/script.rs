//! Types lines from a pipe: each when the guest asks for one, and `exit` after the last.

use tidemark_wire::SHELL_PROMPT;

/// The bytes that are still to be typed, and whether the guest waits for them.
#[derive(Debug, Default)]
pub struct Script {
    pending: Vec<u8>,
    at_end: bool,
    /// The present line of the console, so far.
    line: Vec<u8>,
    /// Whether the guest has shown a prompt that is not answered yet.
    asked: bool,
}

impl Script {
    /// Takes what the console wrote; returns what is to be typed now.
    pub fn console(&mut self, bytes: &[u8]) -> Vec<u8> {
        for &byte in bytes {
            if byte == b'\n' {
                self.line.clear();
            } else {
                self.line.push(byte);
                self.asked |= self.line == SHELL_PROMPT.as_bytes();
            }
        }
        self.next()
    }

    /// Takes what the pipe brought, or nothing at its end; returns what is to be typed now.
    pub fn typed(&mut self, bytes: Option<&[u8]>) -> Vec<u8> {
        match bytes {
            Some(bytes) => self.pending.extend(bytes),
            None => {
                self.at_end = true;
                // The last line may lack its end.
                if !self.pending.is_empty() && !self.pending.ends_with(b"\n") {
                    self.pending.push(b'\n');
                }
            }
        }
        self.next()
    }

    fn next(&mut self) -> Vec<u8> {
        if !self.asked {
            return Vec::new();
        }
        let end = self.pending.iter().position(|&byte| byte == b'\n');
        let line = match end {
            Some(end) => {
                let mut line: Vec<u8> = self.pending.drain(..=end).collect();
                // The guest would answer an end of line within a line, or an end of input, by a
                // prompt of its own.
                line.retain(|&byte| byte == b'\t' || byte >= b' ');
                line.push(b'\n');
                line
            }
            None if self.at_end => b"exit\n".to_vec(),
            None => return Vec::new(),
        };
        self.asked = false;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: &[u8] = SHELL_PROMPT.as_bytes();

    #[test]
    fn a_line_waits_for_the_prompt_and_exit_follows_the_last() {
        let mut script = Script::default();
        assert_eq!(script.typed(Some(b"zoneinfo\r\nfoo")), b"");
        assert_eq!(script.console(b"[    0.1] cpu0: ready\ntide"), b"");
        assert_eq!(script.console(b"mark> "), b"zoneinfo\n");
        assert_eq!(script.console(b"zoneinfo\nNode 0\n"), b"");
        assert_eq!(script.console(PROMPT), b"");
        assert_eq!(script.typed(None), b"foo\n");
        assert_eq!(script.console(b"foo\nunknown\n"), b"");
        assert_eq!(script.console(PROMPT), b"exit\n");
        assert_eq!(script.console(b"exit\n"), b"");
    }

    #[test]
    fn a_prompt_that_a_log_line_follows_is_still_answered() {
        let mut script = Script::default();
        script.console(PROMPT);
        script.console(b"\n[    1.0] cpu1: something happened\n");
        assert_eq!(script.typed(Some(b"help\nmore\n")), b"help\n");
        assert_eq!(script.typed(Some(b"and more\n")), b"");
    }

    #[test]
    fn an_empty_pipe_is_exit() {
        let mut script = Script::default();
        assert_eq!(script.typed(None), b"");
        assert_eq!(script.console(PROMPT), b"exit\n");
    }

    #[test]
    fn control_bytes_of_a_pipe_are_not_typed() {
        let mut script = Script::default();
        script.console(PROMPT);
        assert_eq!(script.typed(Some(b"a\x03\x04b\x1b\n")), b"ab\n");
    }
}
