// SPDX-License-Identifier: Apache-2.0
//! What goes wrong, where, and how often.

use std::sync::Arc;

use tokio::sync::watch;

/// A place in the conversation where something can go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The TCP connection was accepted; before the TLS handshake, if TLS is implicit.
    Connect,
    /// In place of the TLS handshake, implicit or after STARTTLS.
    Handshake,
    /// The `220` at the start.
    Greeting,
    /// The reply to EHLO and HELO.
    Ehlo,
    /// The reply to EHLO after STARTTLS; [`Step::Ehlo`] means this one as well.
    EhloTls,
    /// The reply to STARTTLS.
    StartTls,
    /// The last reply of a login, when user and password are there.
    Auth,
    /// The reply to MAIL.
    Mail,
    /// The reply to RCPT for this address (upper and lower case are the same).
    Rcpt(String),
    /// The reply to RCPT for whatever address.
    AnyRcpt,
    /// The reply to DATA, and to each BDAT that is not the last.
    Data,
    /// When the first bytes of a text have come, with DATA or BDAT. A fault that ends nothing comes before the usual
    /// reply.
    Text,
    /// The reply to the final dot, and to the last BDAT.
    Dot,
    /// The reply to RSET.
    Rset,
    /// The reply to NOOP.
    Noop,
    /// The reply to QUIT.
    Quit,
}

/// What happens at a [`Step`] in place of the usual reply.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This reply, such as `451 4.3.0 Try again later`. The command takes effect if the code begins with 2 or 3.
    /// For more lines than one put CRLF between them.
    Reply(String),
    /// As `Reply`, then the connection is closed.
    CloseAfterReply(String),
    /// No reply; the connection is closed. The command has no effect.
    Close,
    /// No reply; the connection is reset. The command has no effect.
    Reset,
    /// The command takes effect, but the connection is closed before the reply.
    AcceptThenClose,
    /// The command takes effect, but the connection is reset before the reply.
    AcceptThenReset,
    /// Nothing more is ever said. The command has no effect.
    Hang,
    /// As `Hang`, and nothing more is read: the client can't even write for long.
    Stall,
    /// Bytes that are no SMTP reply. The command has no effect, the conversation goes on.
    Garbage,
    /// A reply without an end, until the client closes. The command has no effect.
    Flood,
    /// Reply lines that announce more lines, until the client closes. The command has no effect.
    FloodOfLines,
    /// The command takes effect, but the connection is closed in the middle of the reply.
    Half,
    /// The usual reply as loose servers send it: a blank line in front, every line but the last announces another one, and
    /// the last one is the bare code.
    Loose,
    /// The usual reply, but not before the [`Gate`] is open. The command takes effect at once.
    Hold(Gate),
}

/// How often a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The first so many times; then the usual reply.
    First(u32),
    /// Until it is taken back.
    Always,
}

/// Holds a reply back until the test opens it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    /// Lets everything pass that waits, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open.
    pub async fn passed(&self) {
        // Cannot fail: the sender lives as long as self.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// The faults that are still to come, in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<(Step, Fault, Times)>);

impl Script {
    pub fn set(&mut self, step: Step, fault: Fault, times: Times) {
        self.0.push((step, fault, times));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The first fault that is meant for this step; it is used up if its number of times is over.
    pub fn take(&mut self, step: &Step) -> Option<Fault> {
        let at = self.0.iter().position(|(wanted, _, times)| *times != Times::First(0) && fits(wanted, step))?;
        let (_, fault, times) = &mut self.0[at];
        let fault = fault.clone();
        if let Times::First(left) = times {
            *left -= 1;
        }
        Some(fault)
    }
}

fn fits(wanted: &Step, step: &Step) -> bool {
    match (wanted, step) {
        (Step::Rcpt(wanted), Step::Rcpt(address)) => wanted.eq_ignore_ascii_case(address),
        (Step::AnyRcpt, Step::Rcpt(_)) | (Step::Ehlo, Step::EhloTls) => true,
        _ => wanted == step,
    }
}

/// What the stand-in is about to do at a step. The effect on its own state comes first, then this.
#[derive(Debug)]
pub(super) struct Plan {
    pub reply: String,
    pub fault: Option<Fault>,
}

impl Plan {
    /// True if the command does what it asks for.
    pub fn takes_effect(&self) -> bool {
        let positive = |reply: &str| reply.is_empty() || reply.starts_with(['2', '3']);
        match &self.fault {
            None
            | Some(Fault::Hold(_) | Fault::Loose | Fault::Half | Fault::AcceptThenClose | Fault::AcceptThenReset) => {
                positive(&self.reply)
            }
            Some(Fault::Reply(text) | Fault::CloseAfterReply(text)) => positive(text) && positive(&self.reply),
            Some(
                Fault::Close
                | Fault::Reset
                | Fault::Hang
                | Fault::Stall
                | Fault::Garbage
                | Fault::Flood
                | Fault::FloodOfLines,
            ) => false,
        }
    }
}
