// SPDX-License-Identifier: Apache-2.0
//! Digests, read by a MIME parser of somebody else (Python's email package): as they are composed, and as they leave for
//! a provider after the repair that all mail goes through.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use smtprelay::digest::{self, DEFAULT_LIMIT, Letter, Output, Planner};
use smtprelay::message::{BodyForm, Encode, Envelope, Facts, Offers, Outgoing, Repair};

/// Reads a message from standard input and says as JSON what is in it, and everything that the parser minds.
const PARSER: &str = r#"
import email, email.policy, json, sys

defects = []

def look(message, path):
    defects.extend(f"{path}: {defect!r}" for defect in message.defects)
    for name, value in message.items():
        defects.extend(f"{path} {name}: {defect!r}" for defect in getattr(value, "defects", []))

def part(part, path):
    look(part, path)
    if part.get_content_type() == "message/rfc822":
        inner = part.get_content()
        # What a device got wrong in its own parts stays wrong in there; all else must be right.
        if inner["subject"] != "broken":
            for n, p in enumerate(inner.walk()):
                look(p, f"{path}.{n}")
        leaf = [p for p in inner.walk() if not p.is_multipart()][-1]
        return {"type": "message/rfc822", "file": part.get_filename(), "subject": inner["subject"],
                "inner": inner.get_content_type(), "payload": leaf.get_payload(decode=True).hex()}
    return {"type": part.get_content_type(), "text": part.get_content().replace("\r\n", "\n")}

raw = sys.stdin.buffer.read()
message = email.message_from_bytes(raw, policy=email.policy.default)
look(message, "message")
parts = [part(p, f"part {n}") for n, p in enumerate(message.iter_parts())] if message.is_multipart() else [part(message, "text")]
print(json.dumps({
    "type": message.get_content_type(), "subject": message["subject"], "from": str(message["from"]), "to": str(message["to"]),
    "parts": parts, "defects": defects, "epilogue": message.epilogue, "ascii": raw.isascii(),
    "longest": max(len(line) for line in raw.split(b"\r\n")),
}))
"#;

/// What the parser finds in `message`; `None` when there is no Python. Panics when it finds anything wrong.
fn parsed(message: &[u8]) -> Option<Value> {
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
    child.stdin.take().unwrap().write_all(message).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown: String = String::from_utf8_lossy(message).chars().take(4000).collect();
    assert_eq!(value["defects"], json!([]), "{shown}");
    assert!(value["longest"].as_u64().unwrap() <= 998);
    Some(value)
}

/// A message as the spool holds it.
struct Message {
    header: Vec<u8>,
    body: Vec<u8>,
    form: BodyForm,
}

/// What the repair makes of `raw`.
fn stored(raw: &[u8], to: &[String]) -> Message {
    let envelope = Envelope { from: "plc@plant.local".into(), to: to.to_vec(), smtputf8: false };
    let facts = Facts {
        envelope: &envelope,
        id: "7Q2M4K9XTB",
        hostname: "gw.example",
        helo: "plc",
        client: Some([10, 0, 0, 7].into()),
        protocol: "ESMTP",
        now: 1_795_395_723,
        fallback_from: "relay@example.com",
    };
    let (mut repair, mut body) = (Repair::new(), Vec::new());
    raw.chunks(1000).for_each(|chunk| repair.push(chunk, &mut body));
    let repaired = repair.finish(&facts, &mut body).unwrap();
    Message { header: repaired.header, body, form: repaired.form }
}

/// The mails of a digest of `messages`, as bytes.
fn composed(messages: &[Message], to: &[String], limit: u64) -> (Vec<Vec<u8>>, Vec<usize>) {
    let mut planner = Planner::new(limit);
    for (number, message) in messages.iter().enumerate() {
        assert!(!planner.is_full());
        planner.add(&digest::Facts {
            arrived: 1_795_395_723 + i64::try_from(number).unwrap(),
            from: "plc@plant.local",
            header: &message.header,
            body_size: message.body.len() as u64,
            form: message.form,
        });
    }
    let plan = planner.finish();
    let letter = Letter {
        device: "Tür im Pumpenhaus",
        from: "relay@example.com",
        to,
        rate: "20/h",
        boundary: "7Q2M4K9XTB0123456789",
    };
    let mail = |number| {
        let mut out = Vec::new();
        for step in plan.steps(number, &letter) {
            match step {
                Output::Bytes(bytes) => out.extend(bytes),
                Output::Text(index) => {
                    let message = &messages[index];
                    let mut excerpt = plan.excerpt(index, &message.header, message.form);
                    message.body.chunks(1000).all(|chunk| excerpt.push(chunk));
                    out.extend(excerpt.finish());
                }
                Output::Part(index) => {
                    let message = &messages[index];
                    let mut part = plan.part(message.header.clone(), message.form, &mut out).unwrap();
                    message.body.chunks(1000).for_each(|chunk| part.push(chunk, &mut out));
                    part.finish(&mut out).unwrap();
                }
            }
        }
        out
    };
    ((0..plan.mails()).map(mail).collect(), plan.alone().collect())
}

/// `mail` as it leaves for a provider that takes 8 bits, or not.
fn sent(mail: &[u8], to: &[String], eight_bit_mime: bool) -> Vec<u8> {
    let message = stored(mail, to);
    let mut outgoing = Outgoing::new(message.header, message.form, Offers { eight_bit_mime, smtputf8: false }).unwrap();
    let mut out = [outgoing.header(), b"\r\n"].concat();
    message.body.chunks(777).for_each(|chunk| outgoing.push(chunk, &mut out));
    outgoing.finish(&mut out).unwrap();
    out
}

fn staff() -> Vec<String> {
    (0..60).map(|n| format!("staff-{n}@example.com")).collect()
}

#[test]
fn a_storm_of_500_is_one_readable_mail_with_all_events() {
    let to = staff();
    let messages: Vec<Message> = (0..500)
        .map(|n| {
            stored(
                format!("From: plc@plant.local\r\nSubject: St\u{f6}rung {n}\r\n\r\nF\u{fc}llstand {n} cm\r\n")
                    .as_bytes(),
                &to,
            )
        })
        .collect();
    let (mails, alone) = composed(&messages, &to, DEFAULT_LIMIT);
    assert_eq!((mails.len(), alone.len()), (1, 0));
    println!("500 messages: one mail of {} bytes", mails[0].len());
    for mail in [mails[0].clone(), sent(&mails[0], &to, true), sent(&mails[0], &to, false)] {
        let Some(read) = parsed(&mail) else { return };
        assert_eq!(read["type"], "text/plain");
        assert_eq!(read["subject"], "Tür im Pumpenhaus: 500 messages");
        assert_eq!(read["from"], "Tür im Pumpenhaus <relay@example.com>");
        assert!(read["to"].as_str().unwrap().starts_with("staff-0@example.com, staff-1@example.com"));
        let text = read["parts"][0]["text"].as_str().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let minutes = |n: usize| format!("23 Nov 2026 01:{:02}:{:02}", 2 + (3 + n) / 60, (3 + n) % 60);
        for n in 0..500 {
            let row = format!("{:>4}  {}  Störung {n}", n + 1, minutes(n));
            assert_eq!(lines.iter().filter(|line| **line == row).count(), 1, "{row}");
            let event = format!("Subject: Störung {n}\n\nFüllstand {n} cm\n");
            assert_eq!(text.matches(&event).count(), 1, "{event}");
        }
    }
}

#[test]
fn whatever_devices_send_makes_a_valid_digest_and_arrives_whole() {
    let to = vec!["ops@example.com".to_string()];
    let image: Vec<u8> = (0..60_000u32).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &image);
    let lines: String =
        base64.as_bytes().chunks(76).map(|l| format!("{}\r\n", std::str::from_utf8(l).unwrap())).collect();
    let camera = format!(
        "Subject: Motion\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=cam\r\n\r\n--cam\r\nContent-Type: text/plain\r\n\r\nYard: motion\r\n--cam\r\nContent-Type: image/jpeg\r\nContent-Transfer-Encoding: base64\r\n\r\n{lines}--cam--\r\n"
    );
    let long = "word ".repeat(900);
    let raws: Vec<Vec<u8>> = vec![
        b"Subject: plain\r\n\r\nshort\r\n".to_vec(),
        camera.clone().into_bytes(),
        // Latin 1 without any header, bare line ends, a line of 4500 bytes, a text over the limit.
        b"T\xfcr offen\nzum Hof".to_vec(),
        format!("Subject: long line\r\n\r\n{long}\r\n").into_bytes(),
        format!("Subject: long text\r\n\r\n{}", "über 2 KB\r\n".repeat(400)).into_bytes(),
        b"Subject: page\r\nContent-Type: text/html\r\n\r\n<p>\xfc</p>\r\n".to_vec(),
        // Claims to have parts and has none; a boundary that never comes; a part that is a digest itself.
        b"Subject: broken\r\nContent-Type: multipart/mixed\r\n\r\n--x\r\n\r\nno\r\n".to_vec(),
        b"Subject: --7Q2M\r\n\r\n--7Q2M4K9XTB\r\n.\r\nFrom here\r\n".to_vec(),
        format!("Subject: {}\r\n\r\nx\r\n", "long subject ".repeat(60)).into_bytes(),
        b"".to_vec(),
        camera.replace("Motion", "Motion 2").into_bytes(),
    ];
    let messages: Vec<Message> = raws.iter().map(|raw| stored(raw, &to)).collect();
    for limit in [DEFAULT_LIMIT, 120_000, 50_000] {
        let (mails, alone) = composed(&messages, &to, limit);
        let mut attached = Vec::new();
        for mail in &mails {
            for form in [mail.clone(), sent(mail, &to, true), sent(mail, &to, false)] {
                let Some(read) = parsed(&form) else { return };
                assert!(read["epilogue"].as_str().unwrap_or_default().trim().is_empty());
                let parts = read["parts"].as_array().unwrap();
                assert_eq!(read["type"] == "multipart/mixed", parts.len() > 1);
                assert_eq!(parts[0]["type"], "text/plain");
                if form == *mail {
                    attached.extend(parts.iter().skip(1).cloned());
                }
            }
        }
        let Some(first) = parsed(&mails[0]) else { return };
        let text = first["parts"][0]["text"].as_str().unwrap().to_string();
        for wanted in [
            "\n\nshort\n",
            "\n\nYard: motion\n",
            "\n\nTür offen\nzum Hof\n",
            "über 2 KB\n",
            "\n--7Q2M4K9XTB\n.\nFrom here\n",
            "Subject: long subject ",
        ] {
            let alone_too = wanted.contains("Yard") && alone.contains(&1);
            assert!(alone_too || text.contains(wanted), "{limit}: {wanted}\n{text}");
        }
        let mut places: Vec<usize> = alone.clone();
        for part in &attached {
            let file = part["file"].as_str().unwrap();
            places.push(file["message-".len()..file.len() - 4].parse::<usize>().unwrap() - 1);
            if part["subject"].as_str().unwrap_or_default().starts_with("Motion") {
                let hex: String = image.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(part["payload"].as_str().unwrap(), hex);
            }
        }
        places.sort_unstable();
        assert_eq!(places, [1, 3, 4, 5, 6, 8, 10], "limit {limit}, alone {alone:?}");
        assert_eq!(alone.is_empty(), limit > 100_000, "limit {limit}, alone {alone:?}");
        println!("limit {limit}: {} mails, {} attached, {} alone", mails.len(), attached.len(), alone.len());
    }
    let broken = messages.iter().filter(|message| message.form.encode != Encode::Verbatim).count();
    assert!(broken > 0, "no message is encoded on its way out: the test proves less than it says");
}
