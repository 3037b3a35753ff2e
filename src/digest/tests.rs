// SPDX-License-Identifier: Apache-2.0
//! Digests as plans and as bytes. `tests/digest.rs` has them read by others.

use super::*;
use crate::message::Encode;
use proptest::prelude::*;

const PLAIN: BodyForm = BodyForm { eight_bit: false, encode: Encode::Verbatim };
const LETTER: Letter<'_> =
    Letter { device: "pump_house", from: "me@example.com", to: &[], rate: "20/h", boundary: "0123456789ABCDEFGHIJ" };

/// Header and body of a message.
type Message = (String, Vec<u8>);

fn plan(messages: &[Message], limit: u64) -> Digest {
    let mut planner = Planner::new(limit);
    for (number, (header, body)) in messages.iter().enumerate() {
        let arrived = 1_795_395_723 + number as i64;
        planner.add(&Facts {
            arrived,
            from: "plc@x.y",
            header: header.as_bytes(),
            body_size: body.len() as u64,
            form: PLAIN,
        });
    }
    planner.finish()
}

fn written(digest: &Digest, mail: usize, messages: &[Message]) -> String {
    let mut out = Vec::new();
    for step in digest.steps(mail, &LETTER) {
        match step {
            Output::Bytes(bytes) => out.extend(bytes),
            Output::Text(index) => {
                let (header, body) = &messages[index];
                let mut excerpt = digest.excerpt(index, header.as_bytes(), PLAIN);
                body.chunks(5).all(|chunk| excerpt.push(chunk));
                out.extend(excerpt.finish());
            }
            Output::Part(index) => {
                let (header, body) = &messages[index];
                let mut part = digest.part(header.clone().into_bytes(), PLAIN, &mut out).unwrap();
                body.chunks(5).for_each(|chunk| part.push(chunk, &mut out));
                part.finish(&mut out).unwrap();
            }
        }
    }
    String::from_utf8(out).unwrap()
}

fn text(subject: &str, body: &str) -> Message {
    (format!("From: plc@x.y\r\nSubject: {subject}\r\n"), body.as_bytes().to_vec())
}

fn image(subject: &str, size: usize) -> Message {
    (
        format!("Subject: {subject}\r\nContent-Type: image/jpeg\r\n"),
        "0123456789\r\n".bytes().cycle().take(size).collect(),
    )
}

#[test]
fn texts_make_one_plain_mail() {
    let messages = [text("Pump 1 failed", "Level 17\r\n"), text("=?utf-8?Q?T=C3=BCr?=", "auf\r\n"), text("", "")];
    let digest = plan(&messages, DEFAULT_LIMIT);
    assert_eq!((digest.mails(), digest.alone().count()), (1, 0));
    let expected = "From: \"pump_house\" <me@example.com>\r
To:\r
Subject: pump_house: 3 messages\r
Auto-Submitted: auto-generated\r
MIME-Version: 1.0\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: 8bit\r
\r
pump_house: 3 messages from 23 Nov 2026 01:02:03 to 23 Nov 2026 01:02:05.\r
They came faster than 20/h allows and are combined in this message.\r
Times are UTC.\r
\r
   1  23 Nov 2026 01:02:03  Pump 1 failed\r
   2  23 Nov 2026 01:02:04  Tür\r
   3  23 Nov 2026 01:02:05  (no subject)\r
\r
--- 1 --- 23 Nov 2026 01:02:03 -------------------------------------------\r
From: plc@x.y\r
Subject: Pump 1 failed\r
\r
Level 17\r
\r
--- 2 --- 23 Nov 2026 01:02:04 -------------------------------------------\r
From: plc@x.y\r
Subject: Tür\r
\r
auf\r
\r
--- 3 --- 23 Nov 2026 01:02:05 -------------------------------------------\r
From: plc@x.y\r
Subject: \r
\r
";
    assert_eq!(written(&digest, 0, &messages), expected);
}

#[test]
fn attachments_fill_mails_in_order_and_nothing_is_left_out() {
    let messages = [image("a", 4000), text("b", "short"), image("c", 4000), image("d", 50_000), image("e", 9000)];
    let digest = plan(&messages, 10_000);
    assert_eq!((digest.mails(), digest.alone().collect::<Vec<_>>()), (3, vec![3]));
    let mails: Vec<String> = (0..3).map(|mail| written(&digest, mail, &messages)).collect();
    for (mail, parts) in [(0, vec![1]), (1, vec![3]), (2, vec![5])] {
        let found: Vec<usize> =
            (1..=5).filter(|n| mails[mail].contains(&format!("filename=\"message-{n}.eml\""))).collect();
        assert_eq!(found, parts, "{}", mails[mail]);
        assert!(mails[mail].contains(&format!("Subject: pump_house: 5 messages ({} of 3)\r\n", mail + 1)));
    }
    for line in [
        "   5  23 Nov 2026 01:02:07  e\r\n",
        "Attached in full: message-1.eml, 4038 bytes\r\n",
        "Attached in full to mail 2 of 3: message-3.eml, 4038 bytes\r\n",
        "Attached in full to mail 3 of 3: message-5.eml, 9038 bytes\r\n",
        "Sent as a separate message: 50 KB\r\n",
        "Attachments that did not fit follow in 2 further mails.\r\n",
    ] {
        assert!(mails[0].contains(line), "{line}{}", mails[0]);
    }
}

#[test]
fn a_plan_has_bounds() {
    let mut planner = Planner::new(DEFAULT_LIMIT);
    let facts = Facts { arrived: 5, from: "", header: b"", body_size: 10, form: PLAIN };
    let count = std::iter::repeat_with(|| planner.add(&facts)).take(5000).position(|()| false).unwrap_or(0);
    assert!(planner.is_full() && count == 0);
    let mut small = Planner::new(10);
    assert!(!small.is_full());
    small.add(&facts);
    assert!(small.is_full());
    let digest = small.finish();
    let shown = written(&digest, 0, &[text("", "0123456789")]);
    assert!(shown.contains("   1  time unknown          (no subject)\r\n"), "{shown}");
}

proptest! {
    #[test]
    fn every_message_is_somewhere(sizes in proptest::collection::vec((any::<bool>(), 0usize..6000), 1..40), limit in 1u64..20_000) {
        let messages: Vec<Message> = sizes.iter().enumerate().map(|(n, (is_text, size))| {
            if *is_text { text(&format!("s{n}"), &"x y\r\n".repeat(*size)[..*size]) } else { image(&format!("s{n}"), *size) }
        }).collect();
        let digest = plan(&messages, limit);
        let mut attached: Vec<usize> = digest.alone().collect();
        for mail in 0..digest.mails() {
            let parts: Vec<usize> = digest.steps(mail, &LETTER).filter_map(|step| match step {
                Output::Part(index) => Some(index),
                _ => None,
            }).collect();
            prop_assert!(mail == 0 || !parts.is_empty());
            let bytes: usize = parts.iter().map(|index| messages[*index].1.len()).sum();
            prop_assert!(bytes as u64 <= limit);
            attached.extend(parts);
        }
        attached.sort_unstable();
        let wanted: Vec<usize> = (0..messages.len()).filter(|n| !sizes[*n].0 || sizes[*n].1 > EXCERPT_LIMIT).collect();
        prop_assert_eq!(attached, wanted);
        let first = written(&digest, 0, &messages);
        for n in 0..messages.len() {
            let row = format!("{:>4}  ", n + 1);
            let subject = format!("  s{n}\r\n");
            prop_assert!(first.split_inclusive('\n').any(|line| line.starts_with(&row) && line.ends_with(&subject)));
        }
        prop_assert!(first.split("\r\n").all(|line| line.len() <= 998 && !line.contains('\n')));
    }
}
