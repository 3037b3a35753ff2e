// SPDX-License-Identifier: Apache-2.0
//! The cases in `tests/golden`: what is received (`NAME.in`), what is sent (`NAME.out`: the header without our
//! Received, the blank line, the body as stored), and the notes in the log (`NAME.log`).
//!
//! To add a case, add an `.in` file and run once with `SMTPRELAY_GOLDEN=write`; then review what it wrote.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::message::{Encode, Envelope};

/// Name prefixes and what they mean for the envelope of a case.
fn envelope(name: &str) -> Envelope {
    let mut envelope = Envelope { from: "plc@example.com".into(), to: vec!["ops@example.com".into()], smtputf8: false };
    match name.split_once('-').map_or(name, |(start, _)| start) {
        "smtputf8" => envelope.smtputf8 = true,
        "nosender" => envelope.from.clear(),
        "many" => envelope.to.push("boss@example.com".into()),
        _ => {}
    }
    envelope
}

fn result(name: &str, text: &[u8]) -> (Vec<u8>, Vec<&'static str>, String) {
    let envelope = envelope(name);
    let facts = Facts {
        envelope: &envelope,
        id: "4Qx7",
        hostname: "router.example.com",
        helo: "plc",
        client: Some(std::net::Ipv4Addr::new(192, 168, 1, 5).into()),
        protocol: "SMTP",
        now: 1_795_395_723,
        fallback_from: "",
    };
    let mut body = Vec::new();
    let mut repair = Repair::new();
    repair.push(text, &mut body);
    match repair.finish(&facts, &mut body) {
        Ok(repaired) => {
            let received = received::received(&facts);
            let header = repaired.header.strip_prefix(received.as_bytes()).expect("Received comes first");
            let mut log = String::new();
            for note in &repaired.repairs {
                log += &format!("{note}\n");
            }
            if repaired.form.encode != Encode::Verbatim {
                log += &format!("body: {:?}\n", repaired.form.encode);
            }
            ([header, b"\r\n", &body].concat(), repaired.repairs, log)
        }
        Err(refusal) => (Vec::new(), Vec::new(), format!("{refusal}\n")),
    }
}

#[test]
fn every_case() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let write = std::env::var_os("SMTPRELAY_GOLDEN").is_some_and(|value| value == "write");
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut cases = 0;
    for file in fs::read_dir(&folder).expect("tests/golden is there") {
        let path = file.expect("it can be listed").path();
        if path.extension().is_none_or(|extension| extension != "in") {
            continue;
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a plain name");
        let (out, notes, log) = result(name, &fs::read(&path).expect("a readable case"));
        cases += 1;
        seen.extend(notes.iter().copied());
        if name.contains("correct") && !notes.is_empty() {
            wrong.push(format!("{name}: a correct message was changed: {notes:?}"));
        }
        for (extension, made) in [("out", &out), ("log", &log.into_bytes())] {
            let path = path.with_extension(extension);
            if write {
                fs::write(&path, made).expect("a writable folder");
            }
            let expected = fs::read(&path).unwrap_or_default();
            if expected != *made {
                let (made, expected) = (String::from_utf8_lossy(made), String::from_utf8_lossy(&expected));
                wrong.push(format!("{name}.{extension}:\n--- expected\n{expected}\n--- made\n{made}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 40, "only {cases} cases were found");
    let missing: Vec<_> = notes::ALL.iter().filter(|note| !seen.contains(*note)).collect();
    assert!(missing.is_empty(), "no case for: {missing:?}");
}
