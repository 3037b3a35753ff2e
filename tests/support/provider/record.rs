// SPDX-License-Identifier: Apache-2.0
//! What a provider stand-in remembers of everything that arrived.

use std::time::Instant;

/// All that has happened since the stand-in was made, also across restarts.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// One for each TCP connection, in the order of arrival. The id of a connection is its place here.
    pub connections: Vec<Connection>,
    /// Each message whose text came complete, in the order in which the text ended, accepted or not.
    pub attempts: Vec<Message>,
    /// What a strict server has to object to. A correct client causes none.
    pub complaints: Vec<String>,
    /// Each line of each conversation, and each event between them, in time order.
    pub transcript: Vec<Event>,
}

/// One line of the transcript.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// Id of the connection.
    pub connection: usize,
    /// `C: …` from the client, `S: …` from the stand-in, `*: …` anything else. Passwords are not kept in it.
    pub text: String,
}

/// One TCP connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The names in EHLO and HELO, in order; two when STARTTLS came in between.
    pub hello: Vec<String>,
    /// Set when a TLS handshake was completed.
    pub tls: Option<Tls>,
    /// Why the TLS handshake failed, such as the alert that the client sent.
    pub tls_error: Option<String>,
    /// Each complete try to log in.
    pub logins: Vec<Login>,
    /// Number of messages accepted on it.
    pub messages: usize,
    /// The verbs of the commands, in upper case and in order.
    pub verbs: Vec<String>,
    /// The client said QUIT.
    pub quit: bool,
    /// The connection is over, from either side.
    pub closed: bool,
}

/// The TLS in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// As rustls writes it: `TLSv1_2` or `TLSv1_3`.
    pub version: String,
    /// As rustls writes it, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The name that the client asked for (SNI); none if it was an address.
    pub server_name: Option<String>,
    /// An abbreviated handshake took up an earlier session.
    pub resumed: bool,
}

/// A try to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// `PLAIN`, `LOGIN`, `CRAM-MD5` or `XOAUTH2`.
    pub mechanism: String,
    /// As sent.
    pub user: String,
    /// As sent; with CRAM-MD5 the digest, with XOAUTH2 the token.
    pub secret: String,
    /// Right user and password.
    pub accepted: bool,
}

/// A message whose text arrived complete.
#[derive(Clone, Debug)]
pub struct Message {
    /// Id of the connection it came on.
    pub connection: usize,
    /// The stand-in took it (even if the reply that says so never reached the client).
    pub accepted: bool,
    /// Envelope sender without brackets; empty for the null sender.
    pub sender: String,
    /// Parameters of MAIL, such as `BODY=8BITMIME`, as sent.
    pub mail_params: Vec<String>,
    /// Recipients that were accepted, without brackets, in order.
    pub recipients: Vec<String>,
    /// Recipients that were refused.
    pub refused: Vec<String>,
    /// `DATA` or `BDAT`.
    pub command: &'static str,
    /// The text exactly as it came, without the final dot and with leading dots unstuffed (RFC 5321 section 4.5.2).
    pub data: Vec<u8>,
    /// The TLS it came through.
    pub tls: Option<Tls>,
    /// The user that was logged in.
    pub login: Option<String>,
}

impl Message {
    /// The text for an assertion to look at; bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }

    /// Everything before the blank line, with its last line end. All, if there is no blank line.
    pub fn head(&self) -> &[u8] {
        match self.data.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(at) => &self.data[..at + 2],
            None => &self.data,
        }
    }

    /// Everything behind the blank line. Nothing, if there is no blank line.
    pub fn body(&self) -> &[u8] {
        let head = self.head().len();
        self.data.get(head + 2..).unwrap_or_default()
    }

    /// The values of all header fields of this name, in order, unfolded (RFC 5322 section 2.2.3) and trimmed.
    pub fn headers(&self, name: &str) -> Vec<String> {
        let head = String::from_utf8_lossy(self.head()).into_owned();
        let mut found: Vec<String> = Vec::new();
        let mut inside = false;
        for line in head.split("\r\n") {
            if line.starts_with([' ', '\t']) {
                if let (true, Some(last)) = (inside, found.last_mut()) {
                    last.push_str(line);
                }
                continue;
            }
            let field = line.split_once(':').filter(|(field, _)| field.eq_ignore_ascii_case(name));
            inside = field.is_some();
            found.extend(field.map(|(_, value)| value.trim().to_owned()));
        }
        found
    }

    /// The value of the only header field of this name. None if there is none, or more than one.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut all = self.headers(name);
        if all.len() == 1 { all.pop() } else { None }
    }
}
