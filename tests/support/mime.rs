// SPDX-License-Identifier: Apache-2.0
//! A MIME parser of somebody else: Python's email package.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Reads a message from standard input and says as JSON what is in it, and everything that the parser minds.
const PARSER: &str = r#"
import email, email.policy, json, sys

defects = []

def look(message, path):
    defects.extend(f"{path}: {defect!r}" for defect in message.defects)
    for name, value in message.items():
        defects.extend(f"{path} {name}: {defect!r}" for defect in getattr(value, "defects", []))

def fields(message):
    return {name: str(value) for name, value in message.items()}

def part(part, path):
    look(part, path)
    out = {"type": part.get_content_type(), "charset": part.get_param("charset"), "encoding": part["content-transfer-encoding"]}
    if part.get_content_type() == "message/delivery-status":
        out["blocks"] = []
        for number, block in enumerate(part.get_payload()):
            look(block, f"{path} block {number}")
            out["blocks"].append(fields(block))
    else:
        out["text"] = part.get_content().replace("\r\n", "\n")
    if part.get_content_type() == "text/rfc822-headers":
        original = email.message_from_string(out["text"], policy=email.policy.default)
        out["fields"] = fields(original)
        out["count"] = len(original.items())
    return out

raw = sys.stdin.buffer.read()
message = email.message_from_bytes(raw, policy=email.policy.default)
look(message, "message")
parts = [part(p, f"part {n}") for n, p in enumerate(message.iter_parts())] if message.is_multipart() else [part(message, "text")]
print(json.dumps({
    "type": message.get_content_type(),
    "report_type": message.get_param("report-type"),
    "fields": fields(message),
    "parts": parts,
    "defects": defects,
    "preamble": message.preamble,
    "epilogue": message.epilogue,
    "longest": max(len(line) for line in raw.split(b"\r\n")),
}))
"#;

/// What the parser finds in `message`; `None` when there is no Python. Panics when it finds anything wrong.
pub fn parsed(message: &[u8]) -> Option<Value> {
    let mut python = Command::new("python3");
    python.args(["-c", PARSER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match python.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: python3 is not installed (scripts/need.sh test)");
            return None;
        }
        Err(error) => panic!("start python3: {error}"),
    };
    // It reads everything before it writes.
    child.stdin.take().unwrap().write_all(message).unwrap();
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(message).into_owned();
    assert!(output.status.success(), "{}\n{shown}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["defects"], json!([]), "{shown}");
    assert!(found["longest"].as_u64().unwrap() <= 998, "{shown}");
    for name in ["Date", "Message-ID", "From", "To", "Subject", "Auto-Submitted"] {
        assert!(found["fields"][name].as_str().is_some_and(|value| !value.is_empty()), "{name} is missing\n{shown}");
    }
    Some(found)
}

/// As [`parsed`], for a report: it has its three parts and nothing around them.
pub fn parsed_report(message: &[u8]) -> Option<Value> {
    let found = parsed(message)?;
    let shown = String::from_utf8_lossy(message);
    assert_eq!(
        (&found["type"], &found["report_type"]),
        (&json!("multipart/report"), &json!("delivery-status")),
        "{shown}"
    );
    let types: Vec<_> = found["parts"].as_array().unwrap().iter().map(|part| part["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["text/plain", "message/delivery-status", "text/rfc822-headers"], "{shown}");
    let around = |name: &str| found[name].as_str().unwrap_or_default().trim().to_string();
    assert_eq!((around("preamble"), around("epilogue")), (String::new(), String::new()), "{shown}");
    Some(found)
}
