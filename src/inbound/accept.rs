// SPDX-License-Identifier: Apache-2.0
//! The accept loop of one address: admits the clients that may connect and starts their sessions.
//!
//! Every connection is accepted at once, so that no client waits behind others in the kernel's backlog, where clients
//! cannot be distinguished. A client that may not connect gets the refusal as a reply and takes no session slot; a client
//! that has used its share waits for one of its own sessions to end.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::write;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::access::may_send;
use super::connection::{Stream, Transport};
use super::session::{Rules, Session};
use super::shares::{CountedConnection, Owner, Places, connect};
use super::tls;
use crate::config::TlsMode;
use crate::intake::{Desk, Origin};
use crate::report::Event;
use crate::system::{ordered, task};

/// How long a message that is being received at shutdown may take to arrive completely.
pub(super) const STOP_TIME: Duration = Duration::from_secs(3);
/// How long a connection waits for a session slot. Most devices give up earlier.
pub(super) const PLACE_TIME: Duration = Duration::from_secs(300);
/// The reply to clients that got no slot.
pub(super) const NO_PLACE: &str = "421 4.7.0 Too many connections from your address";
/// Refused connections that are kept open until the client has read the reason; beyond this number they are closed at
/// once.
const REFUSED: usize = 32;
/// How long a client may take to read it.
const REFUSED_TIME: Duration = Duration::from_secs(2);

/// A listener as its accept loop sees it.
pub(super) struct Door {
    pub(super) rules: Arc<Rules>,
    pub(super) nets: Vec<IpNet>,
}

/// Accepts until shutdown, or until the sender of `door` is dropped; existing sessions then continue until they end by
/// themselves. Sessions over the limit wait: a late session is better than none.
pub(super) async fn accept(
    socket: TcpListener,
    mut door: watch::Receiver<Arc<Door>>,
    desk: Desk,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places::default();
    let mut sessions = JoinSet::new();
    let order = stop.clone();
    let mut taken_away = door.clone();
    loop {
        while sessions.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = ordered(&mut stop) => break,
            () = closed(&mut taken_away) => break,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                Event::Advice { text: format!("cannot accept a connection: {error}") }.log_for("several");
                // Most likely out of memory, or another program has used up all file descriptors.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let door = door.borrow_and_update().clone();
        let ip = peer.ip().to_canonical();
        match let_in(ip, &door) {
            Ok(connection) => {
                let guest = Guest { stream, ip, door, _connection: connection };
                let session: task::Boxed<()> = Box::pin(serve(guest, places.clone(), desk.clone(), order.clone()));
                sessions.spawn(session);
            }
            Err((reply, reason)) => {
                Event::Refused { client: ip.to_string(), reason: reason.into() }.log();
                turn_away(stream, reply);
            }
        }
    }
    drop(socket);
    let ended = async { while sessions.join_next().await.is_some() {} };
    tokio::select! {
        () = ordered(&mut stop) => {}
        () = ended => return,
    }
    let _ = tokio::time::timeout(STOP_TIME, async { while sessions.join_next().await.is_some() {} }).await;
}

async fn closed(door: &mut watch::Receiver<Arc<Door>>) {
    while door.changed().await.is_ok() {}
}

/// A client that was admitted.
struct Guest {
    stream: TcpStream,
    ip: IpAddr,
    door: Arc<Door>,
    _connection: CountedConnection,
}

/// Whether a client may connect.
///
/// # Errors
/// The reply if it may not, and the reason for the log.
fn let_in(ip: IpAddr, door: &Door) -> Result<CountedConnection, (&'static str, &'static str)> {
    if !may_send(ip, &door.nets) {
        let why =
            "its address is not in an allowed network; to let it send, add its network to 'list allow' of the listener";
        return Err(("554 5.7.1 Access denied: your address is not in an allowed network", why));
    }
    let limit = door.rules.listener.max_sessions_per_client;
    connect(Owner::Address(ip), limit).ok_or((NO_PLACE, "too many open connections from this client"))
}

async fn serve(guest: Guest, places: Places, desk: Desk, mut stop: watch::Receiver<bool>) {
    let Guest { stream, ip, door, _connection } = guest;
    // Replies are short and the client waits for them.
    let _ = stream.set_nodelay(true);
    let listener = &door.rules.listener;
    let place = tokio::select! {
        place = places.enter(Owner::Address(ip), listener.max_sessions, PLACE_TIME) => place,
        () = ordered(&mut stop) => return turn_away(stream, "421 4.3.2 Service shutting down, try again later"),
    };
    let Some(_place) = place else {
        let reason = format!("no session became free within {} s", PLACE_TIME.as_secs());
        Event::Refused { client: ip.to_string(), reason }.log();
        return turn_away(stream, NO_PLACE);
    };
    let origin = Origin { client: Some(ip), protocol: "SMTP", ..Origin::default() };
    let rules = Arc::clone(&door.rules);
    let (mut stream, mut version): (Stream, _) = (Box::new(stream), None);
    if let (TlsMode::Implicit, Some(acceptor)) = (rules.listener.tls, &rules.tls) {
        match tls::handshake(acceptor, stream).await {
            Ok((protected, found)) => (stream, version) = (protected, Some(found)),
            Err(error) => return Event::Aborted { client: origin.name(), reason: tls::explain(&error) }.log(),
        }
    }
    Session::new(stream, version, rules, desk, origin).run(stop).await;
}

/// Refuses a connection. Waits a moment for the client to read the reply, unless too many connections are waiting
/// already: a connection that is closed with unread data is reset, and some clients then never see the reply. Takes no
/// session slot and does not block the caller.
pub(super) fn turn_away<S: Transport + AsFd + 'static>(stream: S, reply: &str) {
    // The reply fits into the empty send buffer of a new connection. A client that has gone needs no reply.
    let said = write(stream.as_fd(), format!("{reply}\r\n").as_bytes());
    if said.is_ok() && shutdown(stream.as_fd().as_raw_fd(), Shutdown::Write).is_ok() {
        linger(Box::new(stream));
    }
}

fn linger(mut stream: Stream) {
    static ROOM: Semaphore = Semaphore::const_new(REFUSED);
    let Ok(room) = ROOM.try_acquire() else { return };
    task::spawn(async move {
        let _ = tokio::time::timeout(REFUSED_TIME, async {
            let mut waste = [0; 256];
            for _ in 0..64 {
                if !matches!(stream.read(&mut waste).await, Ok(1..)) {
                    break;
                }
            }
        })
        .await;
        drop(room);
    });
}
