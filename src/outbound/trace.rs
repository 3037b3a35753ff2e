// SPDX-License-Identifier: Apache-2.0
//! The connection to a provider, step by step, for an observer: what `smtprelay test` shows.
//!
//! A [`Trace`] is passed along with a connection. The code that sends all mail reports each step to it, so what it
//! shows is how mail is really sent. It has the conversation as well, without secrets or message text, and limited in
//! size.

use std::sync::{Arc, Mutex, MutexGuard};

use zeroize::Zeroizing;

use super::reply::shown;
use crate::config::Account;
use crate::net::{Presented, Trouble};
use crate::secrets::MASK;
use crate::system::lock;

/// Lines that are kept.
const LINES: usize = 160;
/// Their total size in bytes.
const BYTES: usize = 16 << 10;
/// Characters of a line that are shown.
const LINE: usize = 300;
/// Bytes of a command that are checked; tokens are longer than anything else.
const COMMAND: usize = 8 << 10;
/// Shorter words are not searched for in what the server says: they would be found everywhere.
const SHORTEST_SECRET: usize = 4;
/// Secrets that are searched for.
const SECRETS: usize = 16;

/// One step, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceStep {
    /// The clock of this router is set, so that certificates can be verified.
    Clock,
    /// There is a route to the internet.
    Uplink,
    /// The name of the provider's host has an address.
    Dns,
    /// The host accepts the connection; without implicit TLS also: it greets.
    Tcp,
    /// The connection is encrypted, and the host is verified.
    Tls,
    /// It accepts mail from this account: greeting, EHLO and login.
    Login,
    /// It has accepted the test mail.
    Accepted,
}

impl TraceStep {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Clock, Self::Uplink, Self::Dns, Self::Tcp, Self::Tls, Self::Login, Self::Accepted];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Uplink => "uplink",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Login => "login",
            Self::Accepted => "accepted",
        }
    }
}

/// The state of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StepProgress {
    /// It has not started yet.
    #[default]
    Pending,
    /// It is in progress.
    Running,
    /// It succeeded.
    Ok,
    /// It failed, and the test ends with it.
    Failed,
    /// It does not apply here.
    Skipped,
}

impl StepProgress {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// The current state of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub progress: StepProgress,
    /// The result, in one sentence.
    pub text: String,
    /// The remedy; empty: none, or unknown.
    pub remedy: String,
}

struct Record {
    steps: [Seen; TraceStep::ALL.len()],
    transcript: Transcript,
    presented: Option<Presented>,
}

/// Observes one connection. A clone observes the same one.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Record>>);

impl Trace {
    /// Observes a connection of `account`, whose secrets will be masked.
    pub fn new(account: &Account) -> Self {
        let transcript = Transcript::new(&[account.password.expose()]);
        Self(Arc::new(Mutex::new(Record { steps: Default::default(), transcript, presented: None })))
    }

    /// All steps with their current state, in the order of [`TraceStep::ALL`].
    pub fn steps(&self) -> [Seen; TraceStep::ALL.len()] {
        self.lock().steps.clone()
    }

    /// The conversation so far: `> ` by us, `< ` by the server, `* ` neither.
    pub fn transcript(&self) -> Vec<String> {
        self.lock().transcript.lines().to_vec()
    }

    /// The certificate that the server presented and that is not trusted.
    pub fn certificate(&self) -> Option<Presented> {
        self.lock().presented.clone()
    }

    /// The server presented this certificate, which is not trusted.
    pub(super) fn presented(&self, certificate: Option<Presented>) {
        self.lock().presented = certificate;
    }

    /// A step begins.
    pub fn begin(&self, step: TraceStep) {
        self.set(step, StepProgress::Running, "", "");
    }

    /// A step succeeded; the next one begins.
    pub fn done(&self, step: TraceStep, text: impl Into<String>) {
        self.set(step, StepProgress::Ok, text, "");
        let next = TraceStep::ALL.into_iter().skip_while(|other| *other != step).nth(1);
        if let Some(next) = next.filter(|next| self.progress(*next) == StepProgress::Pending) {
            self.begin(next);
        }
    }

    /// A step does not apply; the next one begins.
    pub fn skip(&self, step: TraceStep, text: impl Into<String>) {
        let text = text.into();
        self.done(step, text.as_str());
        self.set(step, StepProgress::Skipped, text, "");
    }

    /// A step failed, and the test ends.
    pub fn fail(&self, step: TraceStep, text: &str, remedy: &str) {
        self.set(step, StepProgress::Failed, text, remedy);
    }

    /// The step in progress failed, and the test ends.
    pub fn end(&self, trouble: &Trouble) {
        let current = TraceStep::ALL.into_iter().rev().find(|step| self.progress(*step) == StepProgress::Running);
        self.fail(current.unwrap_or(TraceStep::Accepted), &trouble.why.what, &trouble.why.remedy);
    }

    /// The state of a step.
    pub fn progress(&self, step: TraceStep) -> StepProgress {
        self.lock().steps.get(step as usize).map(|seen| seen.progress).unwrap_or_default()
    }

    pub(super) fn sent(&self, bytes: &[u8]) {
        self.lock().transcript.sent(bytes);
    }

    pub(super) fn received(&self, line: &[u8]) {
        self.lock().transcript.received(line);
    }

    pub(super) fn note(&self, text: &str) {
        self.lock().transcript.note(text);
    }

    fn set(&self, step: TraceStep, progress: StepProgress, text: impl Into<String>, remedy: &str) {
        if let Some(seen) = self.lock().steps.get_mut(step as usize) {
            *seen = Seen { progress, text: text.into(), remedy: remedy.to_string() };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        lock(&self.0)
    }
}

/// The state of the conversation, as far as it can be seen from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Commands,
    /// Between AUTH and its last reply: what is sent now is secret.
    Login,
    /// After 354, up to the lone dot; bytes of text so far.
    Text(u64),
    /// In a BDAT chunk: remaining bytes, and bytes so far.
    Chunk(u64, u64),
}

/// A bounded transcript. Lines begin with `> ` (ours) or `< ` (the server's).
#[derive(Debug, Default)]
struct Transcript {
    lines: Vec<String>,
    bytes: usize,
    phase: Phase,
    /// A command whose end has not been sent yet.
    command: Zeroizing<Vec<u8>>,
    secrets: Vec<Zeroizing<String>>,
}

impl Transcript {
    /// An empty one, in which `secrets` never occur.
    fn new(secrets: &[&str]) -> Self {
        let mut transcript = Self::default();
        secrets.iter().for_each(|secret| transcript.hide(secret));
        transcript
    }

    /// The lines so far.
    fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Something that is said by neither side, such as the start of TLS.
    fn note(&mut self, text: &str) {
        self.add('*', text);
    }

    /// Adds what we send, split anywhere.
    fn sent(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if let Phase::Chunk(left, so_far) = self.phase {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (_, rest) = bytes.split_at(length);
                let (left, so_far) = (left.saturating_sub(length as u64), so_far.saturating_add(length as u64));
                self.phase = Phase::Chunk(left, so_far);
                if left == 0 {
                    self.end_of_text(so_far);
                }
                bytes = rest;
                continue;
            }
            let length = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            let (piece, rest) = bytes.split_at(length);
            let room = COMMAND.saturating_sub(self.command.len());
            self.command.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
            if let Phase::Text(so_far) = self.phase {
                self.phase = Phase::Text(so_far.saturating_add(length as u64));
            }
            if piece.ends_with(b"\n") {
                self.line_sent();
            }
            bytes = rest;
        }
    }

    /// Adds a line of the server, or a part of an endless one.
    fn received(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let code = line.get(..3).unwrap_or_default();
        let last = !line.get(3..).is_some_and(|rest| rest.starts_with('-'));
        match self.phase {
            Phase::Commands if code == "354" => self.phase = Phase::Text(0),
            Phase::Login if last && !code.starts_with('3') => self.phase = Phase::Commands,
            _ => {}
        }
        self.add('<', line.trim_end());
    }

    fn line_sent(&mut self) {
        let command = std::mem::take(&mut self.command);
        let line = Zeroizing::new(String::from_utf8_lossy(command.trim_ascii_end()).into_owned());
        match self.phase {
            Phase::Text(so_far) if line.as_str() == "." => {
                self.end_of_text(so_far.saturating_sub(command.len() as u64));
                self.add('>', ".");
            }
            Phase::Text(_) => {}
            // An exchange of a login (RFC 4954 section 4) is base64 without spaces, or `*`.
            Phase::Login if !line.contains(' ') && !matches!(line.as_str(), "" | "*" | "QUIT" | "RSET") => {
                self.hide(&line);
                self.add('>', MASK);
            }
            Phase::Login | Phase::Commands | Phase::Chunk(..) => self.command_sent(&line),
        }
    }

    fn command_sent(&mut self, line: &str) {
        let mut words = line.split(' ');
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "AUTH" => {
                self.phase = Phase::Login;
                let mechanism = words.next().unwrap_or_default();
                let mut shown = format!("AUTH {mechanism}");
                for secret in words {
                    self.hide(secret);
                    shown = format!("AUTH {mechanism} {MASK}");
                }
                self.add('>', &shown);
            }
            "BDAT" => {
                let size = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
                self.phase = if size > 0 { Phase::Chunk(size, 0) } else { Phase::Commands };
                self.add('>', line);
            }
            _ => self.add('>', line),
        }
    }

    fn end_of_text(&mut self, bytes: u64) {
        self.phase = Phase::Commands;
        self.add('>', &format!("({bytes} bytes of text)"));
    }

    fn hide(&mut self, secret: &str) {
        if secret.len() >= SHORTEST_SECRET && self.secrets.len() < SECRETS {
            self.secrets.push(Zeroizing::new(secret.to_string()));
        }
    }

    fn add(&mut self, who: char, text: &str) {
        if self.lines.len() >= LINES || self.bytes >= BYTES {
            return;
        }
        let mut text = text.to_string();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        let mut line = format!("{who} {}", shown(&text, LINE));
        self.bytes = self.bytes.saturating_add(line.len());
        if self.lines.len() + 1 == LINES || self.bytes >= BYTES {
            line = "* … and so on".into();
        }
        self.lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Plays a conversation: `C: ` and `S: ` lines.
    fn play(transcript: &mut Transcript, conversation: &[&str]) {
        for line in conversation {
            let (who, text) = line.split_at(3);
            let text = format!("{text}\r\n");
            match who {
                "C: " => transcript.sent(text.as_bytes()),
                _ => transcript.received(text.as_bytes()),
            }
        }
    }

    fn played(conversation: &[&str]) -> Vec<String> {
        let mut transcript = Transcript::new(&["s3cret"]);
        play(&mut transcript, conversation);
        transcript.lines().to_vec()
    }

    #[test]
    fn logins_are_masked_whatever_their_kind() {
        assert_eq!(
            played(&["S: 220 hi s3cret", "C: AUTH PLAIN AGFAYi5jAHMzY3JldA==", "S: 535 5.7.8 AGFAYi5jAHMzY3JldA== no"]),
            ["< 220 hi ********", "> AUTH PLAIN ********", "< 535 5.7.8 ******** no"]
        );
        assert_eq!(
            played(&[
                "C: AUTH LOGIN",
                "S: 334 VXNlcm5hbWU6",
                "C: YUBiLmM=",
                "S: 334 UGFzc3dvcmQ6",
                "C: czNjcmV0",
                "S: 235 ok",
                "C: QUIT"
            ]),
            [
                "> AUTH LOGIN",
                "< 334 VXNlcm5hbWU6",
                "> ********",
                "< 334 UGFzc3dvcmQ6",
                "> ********",
                "< 235 ok",
                "> QUIT"
            ]
        );
        // XOAUTH2: the error is a challenge, and the answer to it is empty.
        assert_eq!(
            played(&["C: AUTH XOAUTH2 dXNlcj1hAWF1dGg9QmVhcmVyIHgBAQ==", "S: 334 eyJ9", "C: ", "S: 535 5.7.8 no"]),
            ["> AUTH XOAUTH2 ********", "< 334 eyJ9", "> ", "< 535 5.7.8 no"]
        );
    }

    #[test]
    fn the_text_of_a_message_is_counted() {
        let data =
            ["C: MAIL FROM:<a@b.c>", "C: DATA", "S: 250 ok", "S: 354 go", "C: Subject: x", "C: ", "C: ..", "C: ."];
        let mut transcript = Transcript::new(&[]);
        play(&mut transcript, &data);
        assert_eq!(
            transcript.lines(),
            ["> MAIL FROM:<a@b.c>", "> DATA", "< 250 ok", "< 354 go", "> (18 bytes of text)", "> ."]
        );
        let mut transcript = Transcript::new(&[]);
        for piece in ["RCPT TO:<d@e", ".f>\r\nBDAT 13 LAST\r\nSecret", " text", "\r\n", "QUIT\r\n"] {
            transcript.sent(piece.as_bytes());
        }
        assert_eq!(transcript.lines(), ["> RCPT TO:<d@e.f>", "> BDAT 13 LAST", "> (13 bytes of text)", "> QUIT"]);
    }

    #[test]
    fn it_has_an_end() {
        let mut transcript = Transcript::new(&[]);
        for _ in 0..10_000 {
            transcript.received(&[b'x'; 4000]);
        }
        assert!(transcript.lines().iter().map(String::len).sum::<usize>() <= BYTES + 2 * LINE);
        assert_eq!(transcript.lines().last().map(String::as_str), Some("* … and so on"));
        let mut transcript = Transcript::new(&[]);
        (0..10_000).for_each(|_| transcript.received(b"250-x"));
        assert_eq!(transcript.lines().len(), LINES);
        transcript.sent(&vec![b'x'; 1 << 20]);
        assert_eq!(transcript.command.len(), COMMAND);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing_and_no_secret_is_shown(
            cuts in proptest::collection::vec(1usize..40, 0..40), password in "[a-zA-Z0-9]{6,30}", server in "[ -~]{0,40}",
        ) {
            let secret = crate::message::base64(format!("\0me\0{password}").as_bytes());
            let said = format!("EHLO gw\r\nAUTH PLAIN {secret}\r\nMAIL FROM:<a@b.c>\r\n");
            let mut whole = Transcript::new(&[&password]);
            whole.sent(said.as_bytes());
            let mut pieces = Transcript::new(&[&password]);
            let mut rest = said.as_bytes();
            for cut in cuts {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                pieces.sent(piece);
                rest = left;
            }
            pieces.sent(rest);
            prop_assert_eq!(whole.lines(), pieces.lines());
            pieces.received(format!("535 {server} {secret} {password}\r\n").as_bytes());
            let all = pieces.lines().join("\n");
            prop_assert!(!all.contains(&secret) && !all.contains(&password), "{all}");
        }
    }
}
