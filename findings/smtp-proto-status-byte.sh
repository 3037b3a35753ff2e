#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# smtp-proto 0.2.5 (crates.io): an enhanced status is three bytes, and larger numbers stick at 255.
#
# RFC 3463 section 2 allows three digits for the second and third part of an enhanced status, and providers use them:
# Microsoft 365 alone has 5.7.515 (sender's domain is not authenticated), 5.7.708 (address of the uplink is not trusted)
# and 5.7.750 (sender's domain is not registered). Response.esc is [u8; 3]; a part above 255 is neither refused nor
# wrapped, it saturates. So the three replies, which need three different remedies, are equal after parsing. The text of the reply no
# longer holds the status either: what was said can only be read from the line itself.
#
# Seen:
#	550 5.7.515 -> code 550 esc [5, 7, 255] text "Access denied"
#	550 5.7.708 -> code 550 esc [5, 7, 255] text "Access denied"
#	550 5.7.750 -> code 550 esc [5, 7, 255] text "Access denied"
#	550 5.7.25  -> code 550 esc [5, 7, 25] text "Access denied"
#
# Needs cargo and crates.io. Ends with 0 when the behaviour is as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'END'
[package]
name = "status"
version = "0.0.0"
edition = "2021"

[dependencies]
smtp-proto = "=0.2.5"

[workspace]
END
cat >"$folder/src/main.rs" <<'END'
use smtp_proto::response::parser::ResponseReceiver;

fn main() {
    for status in ["5.7.515", "5.7.708", "5.7.750", "5.7.25"] {
        let line = format!("550 {status} Access denied\r\n");
        let reply = ResponseReceiver::default().parse(&mut line.as_bytes().iter()).expect("a reply");
        println!("550 {status:7} -> code {} esc {:?} text {:?}", reply.code, reply.esc, reply.message);
    }
}
END
cat >"$folder/expected" <<'END'
550 5.7.515 -> code 550 esc [5, 7, 255] text "Access denied"
550 5.7.708 -> code 550 esc [5, 7, 255] text "Access denied"
550 5.7.750 -> code 550 esc [5, 7, 255] text "Access denied"
550 5.7.25  -> code 550 esc [5, 7, 25] text "Access denied"
END
CARGO_TARGET_DIR=$folder/target timeout 540 cargo run --quiet --manifest-path "$folder/Cargo.toml" >"$folder/seen"
cat "$folder/seen"
if ! diff "$folder/expected" "$folder/seen"; then
	echo 'changed: smtp-proto 0.2.5 no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
