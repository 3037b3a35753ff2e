#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# smtp-proto 0.2.5 (crates.io): two readers of the same reply disagree about `250` without text.
#
# RFC 5321 section 4.2.1 allows a reply line that is only its code ("Reply-code [ SP textstring ] CRLF"), also as the last
# line of an answer to EHLO. ResponseReceiver reads it. EhloResponse::parse, for which mail-send's SmtpClient::ehlo hands
# it the same bytes, takes it for a syntax error, so a client of mail-send never gets past EHLO with such a server. With a blank behind the
# code both read it, and ResponseReceiver then leaves the CR of the line end in the text.
#
# Seen:
#	"250\r\n" reply Ok((250, "")) ehlo Err("unexpected token")
#	"250 \r\n" reply Ok((250, "\r")) ehlo Ok(0)
#	"250-mx.example\r\n250-SIZE 1000\r\n250\r\n" reply Ok((250, "mx.example\nSIZE 1000\n")) ehlo Err("unexpected token")
#	"250-mx.example\r\n250-SIZE 1000\r\n250 \r\n" reply Ok((250, "mx.example\nSIZE 1000\n\r")) ehlo Ok(1000)
#
# Needs cargo and crates.io. Ends with 0 when the behaviour is as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'END'
[package]
name = "bare"
version = "0.0.0"
edition = "2021"

[dependencies]
smtp-proto = "=0.2.5"

[workspace]
END
cat >"$folder/src/main.rs" <<'END'
use smtp_proto::response::parser::ResponseReceiver;
use smtp_proto::{EhloResponse, Error};

fn word(error: Error) -> &'static str {
    match error {
        Error::SyntaxError { syntax } => syntax,
        _ => "another error",
    }
}

fn main() {
    let whole = "250-mx.example\r\n250-SIZE 1000\r\n";
    for text in ["250\r\n".to_string(), "250 \r\n".into(), format!("{whole}250\r\n"), format!("{whole}250 \r\n")] {
        let reply = ResponseReceiver::default().parse(&mut text.as_bytes().iter());
        let ehlo = EhloResponse::parse(&mut text.as_bytes().iter());
        let reply = reply.map(|reply| (reply.code, reply.message)).map_err(word);
        println!("{text:?} reply {reply:?} ehlo {:?}", ehlo.map(|ehlo| ehlo.size).map_err(word));
    }
}
END
cat >"$folder/expected" <<'END'
"250\r\n" reply Ok((250, "")) ehlo Err("unexpected token")
"250 \r\n" reply Ok((250, "\r")) ehlo Ok(0)
"250-mx.example\r\n250-SIZE 1000\r\n250\r\n" reply Ok((250, "mx.example\nSIZE 1000\n")) ehlo Err("unexpected token")
"250-mx.example\r\n250-SIZE 1000\r\n250 \r\n" reply Ok((250, "mx.example\nSIZE 1000\n\r")) ehlo Ok(1000)
END
CARGO_TARGET_DIR=$folder/target timeout 540 cargo run --quiet --manifest-path "$folder/Cargo.toml" >"$folder/seen"
cat "$folder/seen"
if ! diff "$folder/expected" "$folder/seen"; then
	echo 'changed: smtp-proto 0.2.5 no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
