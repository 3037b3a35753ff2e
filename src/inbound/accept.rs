//! The accept loop of one address: lets in who may come in, and starts sessions.
//!
//! Every connection is accepted at once, so that nobody stands behind others in the kernel's backlog, where nobody sees
//! who is who. Who may not come in is told so and holds no place; who has its share waits for its own sessions to end.

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
use super::shares::{Client, Connection, Places, connect};
use super::tls;
use crate::config::TlsMode;
use crate::intake::{Desk, Origin};
use crate::report::Event;
use crate::system::{ordered, task};

/// How long a message that is being received at the order to stop may take to arrive.
pub(super) const STOP_TIME: Duration = Duration::from_secs(3);
/// How long a connection waits for a place. Most devices give up before.
pub(super) const PLACE_TIME: Duration = Duration::from_secs(300);
/// The reply to those for whom there was none.
pub(super) const NO_PLACE: &str = "421 4.7.0 Too many connections from your address";
/// Connections that were refused and are kept until the other side has read why; more are closed at once.
const REFUSED: usize = 32;
/// How long that may take.
const REFUSED_TIME: Duration = Duration::from_secs(2);

/// A listener as its accept loop sees it.
pub(super) struct Door {
    pub(super) rules: Arc<Rules>,
    pub(super) nets: Vec<IpNet>,
}

/// Accepts until the order to stop, or until the other end of `door` is gone: then its sessions go on until they end by
/// themselves. Sessions over the limit wait: late is better than never.
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
                Event::Advice { text: format!("can't accept a connection: {error}") }.log_for("several");
                // Out of memory, most likely, or another program has taken all descriptors.
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

/// A device that was let in.
struct Guest {
    stream: TcpStream,
    ip: IpAddr,
    door: Arc<Door>,
    _connection: Connection,
}

/// Whether a client may connect.
///
/// # Errors
/// The reply when it may not, and why, for the log.
fn let_in(ip: IpAddr, door: &Door) -> Result<Connection, (&'static str, &'static str)> {
    if !may_send(ip, &door.nets) {
        let why = "it is in none of the networks that may send; add its network with list allow if it should";
        return Err(("554 5.7.1 This gateway takes no mail from your address", why));
    }
    let limit = door.rules.listener.max_sessions_per_client;
    connect(Client::Address(ip), limit).ok_or((NO_PLACE, "it has too many connections open"))
}

async fn serve(guest: Guest, places: Places, desk: Desk, mut stop: watch::Receiver<bool>) {
    let Guest { stream, ip, door, _connection } = guest;
    // Replies are short and the other side waits for them.
    let _ = stream.set_nodelay(true);
    let listener = &door.rules.listener;
    let place = tokio::select! {
        place = places.enter(Client::Address(ip), listener.max_sessions, PLACE_TIME) => place,
        () = ordered(&mut stop) => return turn_away(stream, "421 4.3.2 The gateway is being restarted"),
    };
    let Some(_place) = place else {
        let reason = format!("no other connection has ended within {} s", PLACE_TIME.as_secs());
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

/// Says no. Waits a moment for the other side to read it, unless too many are waited for: a connection that is closed with
/// unread bytes in it is reset, and some clients never see what was said before. Takes no place, and no time of the
/// caller's.
pub(super) fn turn_away<S: Transport + AsFd + 'static>(stream: S, reply: &str) {
    // It fits into the empty buffer of a new connection. A client that is gone needs no reply.
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
