//! One delivery: opens the message, gets a connection, runs the transaction.

use std::sync::Arc;
use std::time::Duration;

use super::account::{Job, Returned, quit};
use super::routes::{RouteId, Routes};
use crate::config::{Device, Settings, TlsMode};
use crate::net::TroubleKind;
use crate::net::{Trouble, tls};
use crate::outbound::transaction::Line;
use crate::outbound::{Connection, Outcome, connect, send};
use crate::policy::{self, Policies};
use crate::queue::Item;
use crate::queue::journal::Progress;
use crate::queue::{Meta, Spool, SpoolError, State, Stored};
use crate::report::Event;
use crate::system::task;

/// A connection that rested for less is not given up by a server for being idle.
const BUSY: Duration = Duration::from_secs(5);

/// A message as it was before an attempt.
pub struct Known {
    /// Its envelope.
    pub meta: Meta,
    /// Its header, for a notice.
    pub header: Vec<u8>,
    /// How far its recipients were.
    pub state: State,
    /// When it was accepted, seconds since 1970, as well as that is known now.
    pub arrived: i64,
}

impl Known {
    /// What `stored` tells.
    pub fn of(stored: &Stored, item: &Item) -> Self {
        let (meta, header, state) = (stored.meta.clone(), stored.header.clone(), stored.state.clone());
        Self { meta, header, state, arrived: item.entry.arrived }
    }
}

/// What a delivery hands back.
pub struct Attempted {
    /// The message.
    pub item: Item,
    /// What came of it.
    pub outcome: Outcome,
    /// What it was before; `None` when the message was not touched.
    pub known: Option<Known>,
    /// The connection, if it can carry more.
    pub connection: Option<Connection>,
    /// Name of the account.
    pub account: String,
    /// What belongs to the account.
    pub lane: Returned,
}

/// What the settings of now say about the mail that is to be sent.
#[derive(Clone)]
pub struct Ways {
    /// Which accounts it takes.
    pub routes: Arc<Routes>,
    /// What holds for the device that it comes from.
    pub policies: Arc<Policies>,
}

impl Ways {
    /// Those of `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self { routes: Arc::new(Routes::new(settings)), policies: Arc::new(Policies::new(settings)) }
    }
}

/// Sends `item` as far as possible to those of its recipients that take its route.
pub async fn deliver(mut job: Job, spool: Arc<Spool>, ways: Ways, item: Item) -> Attempted {
    let mut outcome = Outcome::default();
    let mut known = None;
    let mut connection = job.connection.take();
    let (mut spent, mut in_step) = (None, None);
    // A kept connection may have been closed by the server in this very moment, or be one on which it wants no more: then
    // once more with a new one.
    for _ in 0..2 {
        let mut stored = match Stored::open(&spool, &item).await {
            Ok(stored) => stored,
            Err(error) => {
                outcome = unreadable(&item, error);
                known = None;
                break;
            }
        };
        known = Some(Known::of(&stored, &item));
        if stored.state.is_done() {
            break;
        }
        leave_to_others(&mut stored, &ways.routes, item.route);
        connection = connection.take().and_then(|mut kept| {
            // A server that closes for its own reasons says 421; anything else is an answer too many.
            if kept.client.stream.has_spoken() && !kept.client.stream.says_goodbye() {
                in_step = Some(false);
            }
            kept.client.stream.is_idle().then_some(kept)
        });
        let reused = connection.is_some();
        if connection.is_none() {
            match open_connection(&mut job).await {
                Ok(opened) => connection = Some(opened),
                Err(trouble) => {
                    outcome = Outcome { trouble: Some(trouble), ..Outcome::default() };
                    known = None;
                    break;
                }
            }
        }
        let Some(open) = connection.as_mut() else { break };
        give_name(&mut stored, &ways.policies);
        open.login_missing &= !job.needs_no_login;
        open.in_step = job.in_step && in_step != Some(false);
        let (carried, rested) = (open.messages, open.used.elapsed());
        let (result, line) = send(open, stored, &job.account).await;
        let died_unused = line == Line::Dead && reused && !result.text_sent && result.trouble.is_none();
        match line {
            Line::Open => {}
            Line::Dead => connection = None,
            Line::Spent => {
                if let Some(open) = connection.take() {
                    task::spawn(quit(open));
                }
            }
        }
        // Nothing was said of the message; and it was not the time since the last one that was too long.
        if result.again && rested < BUSY {
            spent = Some(carried);
        }
        if in_step != Some(false) {
            in_step = result.in_step.or(in_step);
        }
        let again = reused && (died_unused || result.again);
        outcome = result;
        if !again {
            break;
        }
    }
    if outcome.trouble.is_some()
        && let Some(open) = connection.take()
    {
        task::spawn(quit(open));
    }
    // Had the new connection been refused as well, it would not have been the number.
    let spent = spent.filter(|_| outcome.sender_taken);
    let lane = Returned { spent, in_step, generation: job.generation, wakings: job.wakings, connector: job.connector };
    Attempted { item, outcome, known, connection, account: job.account.name.clone(), lane }
}

/// Recipients that take another route are none of this attempt's business.
fn leave_to_others(stored: &mut Stored, routes: &Routes, route: RouteId) {
    if routes.is_single() {
        return;
    }
    let meta = &stored.meta;
    let others = stored.state.recipients.iter_mut().filter(|recipient| routes.of(meta, &recipient.address) != route);
    // Only in this copy of the state, and nothing is written down from it.
    others.for_each(|recipient| recipient.progress = Progress::Delivered);
}

/// Lets From carry the name of the device. Before the sender is made to fit the account, which keeps names.
fn give_name(stored: &mut Stored, policies: &Policies) {
    // A mail of our own names itself, for whomever it was written.
    if stored.meta.notice {
        return;
    }
    let device = stored.meta.marks.device.as_deref().and_then(|name| policies.device_named(name));
    if let Some(name) = device.and_then(Device::name_in_mail) {
        stored.header = policy::named(&stored.header, name);
    }
}

fn unreadable(item: &Item, error: SpoolError) -> Outcome {
    match error {
        SpoolError::Damaged(reason) => Outcome { damaged: Some(reason), ..Outcome::default() },
        error => {
            Event::SpoolTrouble { id: item.entry.id.to_string(), reason: error.to_string() }.log();
            Outcome::default()
        }
    }
}

async fn open_connection(job: &mut Job) -> Result<Connection, Trouble> {
    if job.account.tls != TlsMode::None && job.connector.is_none() {
        let account = Arc::clone(&job.account);
        let prepared = task::blocking(move || tls::connector(&account)).await;
        let ending = || Trouble::new(TroubleKind::Setup, "the program is ending");
        job.connector = Some(prepared.ok_or_else(ending)??);
    }
    connect(&job.account, &job.hostname, job.connector.as_ref(), None).await
}
