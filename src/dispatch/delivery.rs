// SPDX-License-Identifier: Apache-2.0
//! One delivery: opens the message, gets a connection, runs the transaction.

use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsConnector;

use super::account::{Ahead, DeliveryJob, Returned, quit};
use super::escalation::{StepJob, for_step, rest_is_delivered};
use super::routes::{RouteId, Routes};
use crate::config::{Device, Settings, TlsMode};
use crate::net::TroubleKind;
use crate::net::{Trouble, tls};
use crate::outbound::transaction::ConnectionState;
use crate::outbound::{Connection, Outcome, Verdict, channel, connect, send};
use crate::policy::{self, Policies};
use crate::queue::{Item, Meta, Progress, Spool, SpoolError, State, Stored};
use crate::report::Event;
use crate::report::letter::who;
use crate::system::task;

/// A connection idle for less than this is not closed by a server for being idle.
const BUSY: Duration = Duration::from_secs(5);

/// A message as it was before an attempt.
pub struct Known {
    /// Its envelope.
    pub meta: Meta,
    /// Its header, for a notification.
    pub header: Vec<u8>,
    /// The state of its recipients.
    pub state: State,
    /// When it was accepted, in seconds since 1970, as far as known now.
    pub arrived: i64,
}

impl Known {
    /// Takes what `stored` contains.
    pub fn of(stored: &Stored, item: &Item) -> Self {
        let (meta, header, state) = (stored.meta.clone(), stored.header.clone(), stored.state.clone());
        Self { meta, header, state, arrived: item.entry.arrived }
    }
}

/// What a delivery returns.
pub struct Attempted {
    /// The message.
    pub item: Item,
    /// The result.
    pub outcome: Outcome,
    /// Its state before; `None` when the message was not touched.
    pub known: Option<Known>,
    /// The connection, if it can be used again.
    pub connection: Option<Connection>,
    /// The name of the account.
    pub account: String,
    /// The state of the account.
    pub lane: Returned,
    /// The step of an escalation that it was, if it was one.
    pub step: Option<StepJob>,
}

/// What the current settings say about the mail that is to be sent.
#[derive(Clone)]
pub struct Ways {
    /// Which accounts it takes.
    pub routes: Arc<Routes>,
    /// The settings for the device that it comes from.
    pub policies: Arc<Policies>,
}

impl Ways {
    /// Those of `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self { routes: Arc::new(Routes::new(settings)), policies: Arc::new(Policies::new(settings)) }
    }
}

/// Sends `item` to as many as possible of those of its recipients that take its route.
pub async fn deliver(mut job: DeliveryJob, spool: Arc<Spool>, ways: Ways, item: Item) -> Attempted {
    if job.account.channel.is_some() {
        let work: task::Boxed<Attempted> = Box::pin(push(job, spool, ways, item));
        return work.await;
    }
    let mut outcome = Outcome::default();
    let mut known = None;
    let mut connection = job.connection.take();
    let (mut spent, mut in_step) = (None, None);
    // A kept connection may have been closed by the server just now, or the server may accept no more mail on it: then
    // try again with a new one.
    for _ in 0..2 {
        let mut stored = match spool.open_to_send(&item.entry).await {
            Ok(stored) => stored,
            Err(error) => {
                outcome = unreadable(&item, error);
                known = None;
                break;
            }
        };
        known = Some(Known::of(&stored, &item));
        choose_recipients(&stored.meta, &mut stored.state, &ways, &item, job.step.as_ref());
        if stored.state.is_done() {
            break;
        }
        connection = connection.take().and_then(|mut kept| {
            // A server that closes for its own reasons says 421; anything else is an unexpected reply.
            if kept.client.stream.has_spoken() && !kept.client.stream.says_goodbye() {
                in_step = Some(false);
            }
            kept.client.stream.is_idle().then_some(kept)
        });
        // One that was opened ahead has yet to show that it works.
        let reused = connection.as_ref().is_some_and(|kept| kept.messages > 0);
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
        open.takes_mail = job.takes_mail;
        open.login_missing &= !job.takes_mail;
        open.in_step = job.in_step && in_step != Some(false);
        let (carried, rested) = (open.messages, open.used.elapsed());
        let (result, line) = send(open, stored, &job.account).await;
        let died_unused = line == ConnectionState::Dead && reused && !result.text_sent && result.trouble.is_none();
        match line {
            ConnectionState::Open => {}
            ConnectionState::Dead => connection = None,
            ConnectionState::Spent => {
                if let Some(open) = connection.take() {
                    task::spawn(quit(open));
                }
            }
        }
        // The server said nothing about the message, and the idle time was not too long.
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
    // If the new connection had been refused as well, the number would not have been the reason.
    let stays = |(_, verdict): &(usize, Verdict)| !matches!(verdict, Verdict::Deferred(_));
    let spent = spent.filter(|_| outcome.sender_taken && outcome.results.iter().any(stays));
    let lane = Returned { spent, in_step, generation: job.generation, wakings: job.wakings, connector: job.connector };
    Attempted { item, outcome, known, connection, account: job.account.name.clone(), lane, step: job.step }
}

/// The same through a channel.
async fn push(mut job: DeliveryJob, spool: Arc<Spool>, ways: Ways, item: Item) -> Attempted {
    let mut known = None;
    let outcome = match spool.open_to_send(&item.entry).await {
        Err(error) => unreadable(&item, error),
        Ok(mut stored) => {
            known = Some(Known::of(&stored, &item));
            choose_recipients(&stored.meta, &mut stored.state, &ways, &item, job.step.as_ref());
            if stored.state.is_done() { Outcome::default() } else { push_to_some(&mut job, stored, &ways, &item).await }
        }
    };
    if outcome.trouble.is_some() && !outcome.text_sent {
        // The message was not touched.
        known = None;
    }
    let DeliveryJob { generation, wakings, connector, step, .. } = job;
    let lane = Returned { spent: None, in_step: None, generation, wakings, connector };
    Attempted { item, outcome, known, connection: None, account: job.account.name.clone(), lane, step }
}

async fn push_to_some(job: &mut DeliveryJob, mut stored: Stored, ways: &Ways, item: &Item) -> Outcome {
    let connector = match connector(job).await {
        Ok(connector) => connector,
        Err(trouble) => return Outcome { trouble: Some(trouble), ..Outcome::default() },
    };
    give_name(&mut stored, &ways.policies);
    let meta = &stored.meta;
    let device = meta.marks.device.as_deref().and_then(|name| ways.policies.device_named(name));
    let device = device.filter(|device| !device.is_default()).map(|device| device.title().to_string());
    let device = device.unwrap_or_else(|| who(&meta.client));
    let id = item.entry.id.to_string();
    let about = channel::About { id: &id, device: &device, arrived: item.entry.arrived };
    channel::send(&job.account, stored, about, &connector, None).await
}

/// Leaves those recipients pending that are part of this attempt. Only in this copy of the state, which is never written
/// back.
pub(super) fn choose_recipients(meta: &Meta, state: &mut State, ways: &Ways, item: &Item, step: Option<&StepJob>) {
    match step {
        Some(step) if step.escalates => for_step(meta, state, &ways.routes, |route| ways.routes.is_mail(route), step),
        step => {
            leave_to_others(meta, state, &ways.routes, step.map_or(item.route, |step| step.route), item.tried());
            // Not before: what may have arrived does not count as delivered for the routes with `after`.
            for (index, recipient) in state.recipients.iter_mut().enumerate() {
                if recipient.is_doubtful() || step.is_none() && item.left_out.contains(&index) {
                    recipient.progress = Progress::Delivered;
                }
            }
        }
    }
}

/// Recipients that take another route, or may not leave yet, are not part of this attempt.
fn leave_to_others(meta: &Meta, state: &mut State, routes: &Routes, route: RouteId, tried: Duration) {
    if routes.is_single() {
        return;
    }
    let rest = routes.are_timed() && rest_is_delivered(routes, meta, state);
    for recipient in &mut state.recipients {
        if !routes.serve(meta, &recipient.address, route, tried, rest) {
            recipient.progress = Progress::Delivered;
        }
    }
}

/// Puts the name of the device into From, before the sender is adapted to the account, which keeps names.
fn give_name(stored: &mut Stored, policies: &Policies) {
    // Mail from the gateway itself carries its own name, whoever it is for.
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

/// Opens a connection for mail that a device is about to send.
pub async fn connect_ahead(mut job: DeliveryJob) -> Ahead {
    let result = open_connection(&mut job).await;
    Ahead { generation: job.generation, wakings: job.wakings, connector: job.connector, result }
}

async fn open_connection(job: &mut DeliveryJob) -> Result<Connection, Trouble> {
    if job.account.tls != TlsMode::None {
        connector(job).await?;
    }
    connect(&job.account, &job.hostname, job.connector.as_ref(), None).await
}

/// TLS for the account, set up once.
async fn connector(job: &mut DeliveryJob) -> Result<TlsConnector, Trouble> {
    if let Some(connector) = &job.connector {
        return Ok(connector.clone());
    }
    let account = Arc::clone(&job.account);
    let prepared = task::blocking(move || tls::connector(&account)).await;
    let ending = || Trouble::new(TroubleKind::Setup, "the program is shutting down");
    let connector = prepared.ok_or_else(ending)??;
    job.connector = Some(connector.clone());
    Ok(connector)
}
