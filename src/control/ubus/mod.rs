// SPDX-License-Identifier: Apache-2.0
//! OpenWrt's message bus: the methods as the object `smtprelay`, notifications for subscribers, and the networks from
//! netifd.
//!
//! | module | content |
//! |---|---|
//! | [`object`] | our object and its calls |
//! | [`news`] | notifications and events |
//!
//! Mail never depends on any of this. Without ubusd nothing happens except a new connection attempt now and then; what
//! ubusd does not accept at once is dropped, unless it is the answer to a call.

pub mod news;
pub mod object;

use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::timeout;

use self::object::Call;
use super::Api;
use crate::report::{Event, observe};
use crate::system::{ordered, task};
use crate::ubus::connection::{Link, Message, RequestError};
use crate::ubus::message::{MessageFields, kind, status};
use crate::ubus::{connect, connection, netifd};

/// Maximum number of concurrent calls.
const CALLS: usize = 16;
/// Maximum number of events that wait to be sent.
const EVENTS: usize = 64;
/// Timeout for ubusd's greeting and for requests that it handles itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two attempts to connect: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Serves the methods and sends notifications until the order to stop. `early` is a connection that root has opened
/// ([`crate::ubus::connect`]). Reconnects when ubusd has been gone.
pub async fn run(early: Option<StdStream>, api: Arc<Api>, mut stop: watch::Receiver<bool>) {
    let mut events = observe(EVENTS);
    let (mut stream, mut wait) = (early, RETRY.0);
    loop {
        if let Some(stream) = stream.take().or_else(connect) {
            let joined = tokio::select! {
                () = ordered(&mut stop) => return,
                joined = converse(stream, &api, &mut events) => joined,
            };
            crate::system::networks::outdated();
            if joined {
                wait = RETRY.0;
            }
        }
        // Old events are not sent.
        tokio::select! {
            () = ordered(&mut stop) => return,
            () = drain(&mut events) => {}
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Discards events. Never ends.
async fn drain(events: &mut mpsc::Receiver<Arc<Event>>) {
    while events.recv().await.is_some() {}
    std::future::pending().await
}

/// One connection to ubusd, until it is gone. True if ubusd has sent its greeting.
async fn converse(stream: StdStream, api: &Arc<Api>, events: &mut mpsc::Receiver<Arc<Event>>) -> bool {
    let Ok(stream) = UnixStream::from_std(stream) else { return false };
    let (mut incoming, to) = stream.into_split();
    // ubusd closes the connection at once if it does not know our user.
    match timeout(PATIENCE, connection::read(&mut incoming)).await {
        Ok(Ok(message)) if message.head.kind == kind::HELLO => {}
        _ => return false,
    }
    let (link, outgoing) = Link::new();
    let (link, heard) = (Arc::new(link), Notify::new());
    tokio::select! {
        () = listen(incoming, &link, &heard, api) => {}
        () = connection::write(to, outgoing) => {}
        () = publish(&link) => {}
        () = netifd::follow(&link, &heard) => {}
        () = tell(&link, events) => {}
    }
    true
}

/// Handles received messages, until the connection is gone.
async fn listen(mut from: OwnedReadHalf, link: &Arc<Link>, heard: &Notify, api: &Arc<Api>) {
    let places = Arc::new(Semaphore::new(CALLS));
    while let Ok(message) = connection::read(&mut from).await {
        match message.head.kind {
            kind::STATUS | kind::DATA => link.answered(&message),
            kind::INVOKE => called(message, link, heard, api, &places).await,
            kind::NOTIFY => {
                let fields = MessageFields::read(message.body.as_deref().unwrap_or_default()).unwrap_or_default();
                if let Some(active) = fields.active {
                    link.watched.store(active, Ordering::Relaxed);
                }
            }
            // An object that we were subscribed to is gone, or the message is something newer than this program.
            _ => heard.notify_one(),
        }
    }
}

/// A call of our object, or a notification for us.
async fn called(message: Message, link: &Arc<Link>, heard: &Notify, api: &Arc<Api>, places: &Arc<Semaphore>) {
    let head = message.head;
    let Some(body) = message.body else {
        // Too large to parse; only one object can have been called.
        let object = link.object.load(Ordering::Relaxed);
        link.reply(head, object, None, status::INVALID_ARGUMENT).await;
        return;
    };
    let Ok(fields) = MessageFields::read(&body) else { return };
    if fields.object.is_some_and(|object| object == link.ear.load(Ordering::Relaxed)) {
        heard.notify_one();
        if let Some(object) = fields.object.filter(|_| !fields.no_reply) {
            link.reply(head, object, None, status::OK).await;
        }
        return;
    }
    if let Some(call) = Call::new(head, &fields) {
        let place = Arc::clone(places).try_acquire_owned().ok();
        if place.is_some() {
            task::spawn(call.serve(Arc::clone(link), Arc::clone(api), place));
        } else {
            // Answered here, which also stops the flood: nothing is read meanwhile.
            call.serve(Arc::clone(link), Arc::clone(api), None).await;
        }
    }
}

/// Publishes the object, and retries until it is allowed.
async fn publish(link: &Link) {
    let (attributes, mut wait, mut said) = (object::published(), RETRY.0, false);
    loop {
        match link.add_object(&attributes, PATIENCE).await {
            Ok(object) => {
                link.object.store(object, Ordering::Relaxed);
                return std::future::pending().await;
            }
            // The object of a program that has just ended may still be there: only a lasting problem is worth a
            // message.
            Err(RequestError::Refused(status)) if !said && wait >= RETRY.1 => {
                said = true;
                let text = format!(
                    "ubusd does not accept the object smtprelay (status {status}): LuCI and ubus cannot reach this \
                     gateway. Check that /usr/share/acl.d/smtprelay.json exists and that ubusd has read it (killall -HUP ubusd)"
                );
                Event::Advice { text }.log();
            }
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Sends events as they happen.
async fn tell(link: &Link, events: &mut mpsc::Receiver<Arc<Event>>) {
    while let Some(event) = events.recv().await {
        news::tell(link, &event);
    }
    std::future::pending().await
}
