// SPDX-License-Identifier: Apache-2.0
//! Throws broken messages at the reader of what comes over ubus: it must not panic, and what it reads it must be able to
//! write and read again.
//!
//! ```text
//! cargo run --release -- 1000000        so many made-up inputs
//! cargo run --release -- 1000000 7      the same with another seed
//! cargo run --release <FILE             one input, for other fuzzers (AFL: as target with the input on stdin)
//! ```
//!
//! An input that is a find is printed in hexadecimal digits; `xxd -r -p` turns it into a file again.

use std::io::Read;
use std::panic::catch_unwind;
use std::process::ExitCode;

// The reader under test, straight from the main crate's source.
#[allow(dead_code)]
#[path = "../../../src/ubus/blobmsg.rs"]
mod blobmsg;
mod inputs;
#[allow(dead_code)]
#[path = "../../../src/ubus/message.rs"]
mod message;

/// What must hold for any bytes. Returns whether they were a table.
fn check(input: &[u8]) -> bool {
    if let Some((first, rest)) = input.split_first_chunk() {
        if let Ok((_, length)) = message::head(first) {
            assert!(length <= blobmsg::MESSAGE_LIMIT);
        }
        if let Ok(fields) = message::MessageFields::read(rest) {
            let _ = fields.data.map(blobmsg::decode);
        }
    }
    let Ok(value) = blobmsg::decode(input) else { return false };
    // Bytes that are not UTF-8 become three: what was near the limit may be beyond it now.
    if let Ok(written) = blobmsg::encode(&value) {
        assert_eq!(blobmsg::decode(&written).as_ref(), Ok(&value), "what was read is not what is written");
        assert!(!input.is_empty() || written.is_empty());
    } else {
        assert!(input.len() > blobmsg::MESSAGE_LIMIT / 3, "what was read can't be written");
    }
    true
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (count, seed) = match (arguments.next(), arguments.next()) {
        (None, _) => {
            let mut input = Vec::new();
            std::io::stdin().read_to_end(&mut input).expect("something on stdin");
            println!("{}", if check(&input) { "a table" } else { "no table" });
            return ExitCode::SUCCESS;
        }
        (Some(Ok(count)), None) => (count, 1),
        (Some(Ok(count)), Some(Ok(seed))) => (count, seed),
        _ => {
            eprintln!("usage: smtprelay-fuzz [COUNT [SEED]]; without COUNT one input is read from stdin");
            return ExitCode::from(2);
        }
    };
    let mut inputs = inputs::Inputs::new(seed);
    let mut tables = 0u64;
    for n in 0..count {
        let input = inputs.next();
        match catch_unwind(|| check(&input)) {
            Ok(table) => tables += u64::from(table),
            Err(_) => {
                let digits: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
                eprintln!("input {n} of seed {seed}:\n{digits}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} inputs, {tables} of them tables; seed {seed}");
    // Noise alone would test nothing but the first check, and tables alone none.
    if count >= 1000 && (tables < count / 20 || tables > count / 10 * 9) {
        eprintln!("the inputs are not what they should be");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
