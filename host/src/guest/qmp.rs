//! QEMU's machine protocol, with one JSON object in each line.

use serde_json::{Value, json};

/// The commands that the host gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Leaves QMP's negotiation mode.
    Capabilities,
    /// Asks the guest to give a DIMM back.
    Pull { dimm: u8 },
    /// Puts a DIMM of a node back.
    Plug { dimm: u8, node: u8 },
    /// Sends an NMI to every CPU.
    InjectNmi,
    /// Asks for the registers of every CPU, as text.
    Registers,
    /// Ends QEMU.
    Quit,
}

impl Command {
    /// Returns the line that gives this command the number `id`.
    pub fn line(self, id: u64) -> String {
        let (name, arguments) = match self {
            Command::Capabilities => ("qmp_capabilities", json!({})),
            Command::Pull { dimm } => ("device_del", json!({ "id": format!("dimm{dimm}") })),
            Command::Plug { dimm, node } => (
                "device_add",
                json!({
                    "driver": "pc-dimm",
                    "id": format!("dimm{dimm}"),
                    "memdev": format!("mem{dimm}"),
                    "node": node,
                }),
            ),
            Command::InjectNmi => ("inject-nmi", json!({})),
            Command::Registers => (
                "human-monitor-command",
                json!({ "command-line": "info registers -a" }),
            ),
            Command::Quit => ("quit", json!({})),
        };
        let mut line = json!({ "execute": name, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        line
    }
}

/// A message from QEMU.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// QEMU's greeting, with its version.
    Greeting { version: String },
    /// A command succeeded.
    Done { id: u64, value: Value },
    /// A command failed.
    Failed { id: u64, why: String },
    /// The guest has ejected a DIMM and QEMU has removed it.
    DeviceDeleted { dimm: u8 },
    /// The guest wrote a status for a DIMM's slot.
    Ost { dimm: u8, source: u32, status: u32 },
    /// The machine stops, for this reason.
    Shutdown { reason: String },
    /// A message that the host does not use.
    Other,
}

/// Reads one line.
///
/// # Errors
/// The line is not a JSON object.
pub fn parse(line: &str) -> Result<Message, serde_json::Error> {
    let value: Value = serde_json::from_str(line)?;
    Ok(message(&value).unwrap_or(Message::Other))
}

fn message(value: &Value) -> Option<Message> {
    if let Some(greeting) = value.get("QMP") {
        let part = |name| greeting["version"]["qemu"][name].as_u64().unwrap_or(0);
        return Some(Message::Greeting {
            version: format!("{}.{}.{}", part("major"), part("minor"), part("micro")),
        });
    }
    if let Some(name) = value.get("event") {
        return event(name.as_str()?, &value["data"]);
    }
    let id = value["id"].as_u64()?;
    if let Some(error) = value.get("error") {
        let why = error["desc"].as_str().unwrap_or("without a reason");
        return Some(Message::Failed {
            id,
            why: why.to_owned(),
        });
    }
    value.get("return").map(|value| Message::Done {
        id,
        value: value.clone(),
    })
}

fn event(name: &str, data: &Value) -> Option<Message> {
    let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
    match name {
        "DEVICE_DELETED" => Some(Message::DeviceDeleted {
            dimm: dimm(&data["device"])?,
        }),
        "ACPI_DEVICE_OST" => {
            let info = &data["info"];
            Some(Message::Ost {
                // QEMU leaves the device out once the slot is empty. The slot's number is the
                // DIMM's.
                dimm: dimm(&info["device"]).or_else(|| info["slot"].as_str()?.parse().ok())?,
                source: number(&info["source"])?,
                status: number(&info["status"])?,
            })
        }
        "SHUTDOWN" => Some(Message::Shutdown {
            reason: data["reason"].as_str()?.to_owned(),
        }),
        _ => None,
    }
}

fn dimm(id: &Value) -> Option<u8> {
    id.as_str()?.strip_prefix("dimm")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_one_line_of_json() {
        let line = Command::Plug { dimm: 1, node: 1 }.line(7);
        assert!(line.ends_with('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["execute"], "device_add");
        assert_eq!(value["arguments"]["memdev"], "mem1");
        assert_eq!(value["id"], 7);
    }

    #[test]
    fn what_qemu_says_is_understood() {
        let cases = [
            (
                r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}"#,
                Message::Greeting {
                    version: "7.2.22".to_owned(),
                },
            ),
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "DEVICE_DELETED", "data": {"device": "dimm1", "path": "/machine/peripheral/dimm1"}}"#,
                Message::DeviceDeleted { dimm: 1 },
            ),
            (
                r#"{"event": "DEVICE_DELETED", "data": {"path": "/machine/peripheral/dimm1/x"}}"#,
                Message::Other,
            ),
            (
                r#"{"event": "ACPI_DEVICE_OST", "data": {"info": {"device": "dimm0", "source": 3, "status": 129, "slot": "0", "slot-type": "DIMM"}}}"#,
                Message::Ost {
                    dimm: 0,
                    source: 3,
                    status: 0x81,
                },
            ),
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#,
                Message::Shutdown {
                    reason: "guest-reset".to_owned(),
                },
            ),
            (
                r#"{"id": 3, "error": {"class": "GenericError", "desc": "no such device"}}"#,
                Message::Failed {
                    id: 3,
                    why: "no such device".to_owned(),
                },
            ),
            (
                r#"{"return": "text", "id": 4}"#,
                Message::Done {
                    id: 4,
                    value: Value::from("text"),
                },
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line).unwrap(), expected, "{line}");
        }
        assert!(parse("{").is_err());
    }
}
