// SPDX-License-Identifier: Apache-2.0
//! Messages of many shapes, converted and parsed again: by an independent parser, and by Python's.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::lines::Base64Lines;
use super::lines::tests::decoded as base64_decoded;
use super::quoted_printable::tests::{decoded as quoted_printable_decoded, texts};
use super::tests::{ALL, EIGHT, NONE, sent};
use super::{BodyForm, Encode, QuotedPrintable};

/// A part or a message.
#[derive(Debug, Clone)]
enum Node {
    Leaf { kind: &'static str, encoding: &'static str, content: Vec<u8> },
    Multipart { encoding: &'static str, preamble: bool, parts: Vec<Node> },
    Message { encoding: &'static str, inner: Box<Node> },
}

fn trees(contents: impl Strategy<Value = Vec<u8>> + 'static) -> impl Strategy<Value = Node> {
    let kinds = prop::sample::select(vec!["", "text/plain; charset=utf-8", "image/png", "application/octet-stream"]);
    let labels = || prop::sample::select(vec!["", "7bit", "8bit", "binary"]);
    let encodings = prop_oneof![4 => labels(), 1 => Just("base64"), 1 => Just("quoted-printable")];
    let leaf =
        (kinds, encodings, contents).prop_map(|(kind, encoding, content)| Node::Leaf { kind, encoding, content });
    leaf.prop_recursive(4, 16, 4, move |inner| {
        prop_oneof![
            3 => (labels(), any::<bool>(), prop::collection::vec(inner.clone(), 1..4))
                .prop_map(|(encoding, preamble, parts)| Node::Multipart { encoding, preamble, parts }),
            1 => (labels(), inner).prop_map(|(encoding, inner)| Node::Message { encoding, inner: Box::new(inner) }),
        ]
    })
}

/// Header and body of `node`. `count` numbers the boundaries.
fn written(node: &Node, count: &mut u32) -> (String, Vec<u8>) {
    let (kind, encoding, body) = match node {
        Node::Leaf { kind, encoding, content } => {
            let mut body = Vec::new();
            match *encoding {
                "base64" => {
                    let mut coder = Base64Lines::default();
                    coder.push(content, &mut body);
                    coder.finish(&mut body);
                }
                "quoted-printable" => {
                    let mut coder = QuotedPrintable::default();
                    coder.push(content, &mut body);
                    coder.finish(&mut body);
                }
                _ => body.clone_from(content),
            }
            ((*kind).to_string(), encoding, body)
        }
        Node::Multipart { encoding, preamble, parts } => {
            *count += 1;
            let boundary = format!("Qx~{count}");
            let mut body = if *preamble { b"ignored\r\n".to_vec() } else { Vec::new() };
            for part in parts {
                let (header, text) = written(part, count);
                body.extend_from_slice(format!("--{boundary}\r\n{header}\r\n").as_bytes());
                body.extend_from_slice(&text);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
            (format!("multipart/mixed;\r\n boundary=\"{boundary}\""), encoding, body)
        }
        Node::Message { encoding, inner } => {
            let (header, text) = written(inner, count);
            let body = [format!("Subject: inner\r\nMIME-Version: 1.0\r\n{header}\r\n").as_bytes(), &text].concat();
            ("message/rfc822".to_string(), encoding, body)
        }
    };
    let mut header = String::new();
    if !kind.is_empty() {
        header += &format!("Content-Type: {kind}\r\n");
    }
    if !encoding.is_empty() {
        header += &format!("Content-Transfer-Encoding: {encoding}\r\n");
    }
    (header, body)
}

/// The contents of the leaves, in order.
fn leaves(node: &Node, out: &mut Vec<Vec<u8>>) {
    match node {
        Node::Leaf { content, .. } => out.push(content.clone()),
        Node::Multipart { parts, .. } => parts.iter().for_each(|part| leaves(part, out)),
        Node::Message { inner, .. } => leaves(inner, out),
    }
}

/// The same from a text, by plain splitting.
fn read(text: &str, out: &mut Vec<Vec<u8>>) {
    let (header, body) = match text.strip_prefix("\r\n") {
        Some(body) => ("", body),
        None => text.split_once("\r\n\r\n").unwrap(),
    };
    let line = |name: &str| header.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").to_string();
    if let Some((_, tail)) = header.split_once("boundary=\"") {
        assert!(matches!(&*line("Content-Transfer-Encoding: "), "" | "7bit"));
        let boundary = format!("\r\n--{}", tail.split_once('"').unwrap().0);
        let body = format!("\r\n{body}");
        let (parts, epilogue) = body.split_once(&format!("{boundary}--\r\n")).unwrap();
        assert_eq!(epilogue, "");
        parts.split(&format!("{boundary}\r\n")).skip(1).for_each(|part| read(part, out));
    } else if line("Content-Type: ") == "message/rfc822" {
        assert!(matches!(&*line("Content-Transfer-Encoding: "), "" | "7bit"));
        read(body, out);
    } else {
        out.push(match &*line("Content-Transfer-Encoding: ") {
            "quoted-printable" => quoted_printable_decoded(body),
            "base64" => base64_decoded(body.strip_suffix("\r\n").unwrap_or(body)),
            "" | "7bit" => body.as_bytes().to_vec(),
            other => panic!("left as {other}"),
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_part_comes_back(tree in trees(texts()), size in 1usize..40, wrap in any::<bool>()) {
        let (header, body) = written(&tree, &mut 0);
        let header = format!("Subject: outer\r\n{header}");
        // Wrapping must not change a message without long lines.
        let form = BodyForm { encode: if wrap { Encode::Parts } else { Encode::Verbatim }, ..EIGHT };
        let (head, out) = sent(header.as_bytes(), &body, form, NONE, usize::MAX).unwrap();
        prop_assert_eq!(sent(header.as_bytes(), &body, form, NONE, size).unwrap(), (head.clone(), out.clone()));
        let text = String::from_utf8([head, b"\r\n".to_vec(), out].concat()).unwrap();
        prop_assert!(text.is_ascii());
        prop_assert!(text.split("\r\n").all(|line| line.len() <= 998));
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        leaves(&tree, &mut expected);
        read(&text, &mut found);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_input_does_harm(lines in prop::collection::vec(prop::sample::select(vec![
        "--a", "--a--", "--b", "--b--", "--", "", "", "Content-Type: multipart/mixed; boundary=b", "Content-Type: message/rfc822",
        "Content-Type: multipart/digest; boundary=a", "Content-Transfer-Encoding: 8bit", " x", "Tür", "X: y", "Content-Type: image/x",
        "Content-Transfer-Encoding: x-old",
    ]), 0..40), size in 1usize..20) {
        let header = b"Content-Type: multipart/mixed; boundary=a\r\n";
        let body = lines.join("\r\n");
        let whole = sent(header, body.as_bytes(), EIGHT, NONE, usize::MAX);
        prop_assert_eq!(&sent(header, body.as_bytes(), EIGHT, NONE, size), &whole);
        prop_assert!(whole.is_err() || whole.is_ok_and(|(header, body)| header.is_ascii() && body.is_ascii()));
    }
}

/// Reads pairs of messages, as hexadecimal lines, and compares type and content of their parts.
const COMPARE: &str = r#"
import email, sys
def parts(text):
    found = []
    for part in email.message_from_bytes(bytes.fromhex(text)).walk():
        assert not part.defects, part.defects
        content = None if part.is_multipart() else part.get_payload(decode=True)
        found.append((part.get_content_type(), part.get_content_charset(), part.get("Subject"), content))
    return found
count = 0
for line in sys.stdin:
    before, after = map(parts, line.split("/"))
    assert before == after, (before, after)
    count += len(before)
print(count)
"#;

#[test]
fn python_finds_the_same_parts() {
    let python = Command::new("python3").args(["-c", COMPARE]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut python = match python {
        Ok(python) => python,
        Err(error) => {
            println!("skipped: no python3 to compare with ({error})");
            return;
        }
    };
    let mut input = python.stdin.take().unwrap();
    // Python treats a lone CR or LF as a line ending, so these messages contain none.
    let contents = prop::collection::vec(
        prop_oneof![
            40 => prop::sample::select(vec!["Tür", "\r\n", " ", "=", ".", "From ", "\u{1}", "--", "ende"])
                .prop_map(str::to_string),
            1 => (900..2000usize).prop_map(|count| "x;".repeat(count)),
        ],
        0..60,
    )
    .prop_map(|words| words.concat().into_bytes());
    let (mut runner, strategy) = (TestRunner::deterministic(), trees(contents));
    let mut parts = 0;
    for round in 0..200 {
        let offers = if round % 2 == 0 { NONE } else { ALL };
        let tree = strategy.new_tree(&mut runner).unwrap().current();
        let (header, body) = written(&tree, &mut 0);
        let header = format!("Subject: outer\r\nMIME-Version: 1.0\r\n{header}");
        let form = BodyForm { encode: Encode::Parts, ..EIGHT };
        let (head, out) = sent(header.as_bytes(), &body, form, offers, 100).unwrap();
        assert!(out.split(|byte| *byte == b'\n').all(|line| line.len() <= 999));
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let before = hex(&[header.as_bytes(), b"\r\n", &body].concat());
        writeln!(input, "{before}/{}", hex(&[&head[..], b"\r\n", &out].concat())).unwrap();
        let mut found = Vec::new();
        leaves(&tree, &mut found);
        parts += found.len();
    }
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "python saw a difference");
    let seen: usize = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(seen > parts && parts > 150, "{seen} parts compared, {parts} leaves sent");
}
