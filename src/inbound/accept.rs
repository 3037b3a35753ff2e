// SPDX-License-Identifier: Apache-2.0
//! Admits clients and starts their sessions: [`allowed`] says which networks may connect, `accept` is the accept loop
//! of one address, and [`run_local`] that of the socket through which programs on this host submit mail (`smtprelay
//! send`, `sendmail`).
//!
//! Every connection is accepted at once, so that no client waits behind others in the kernel's backlog, where clients
//! cannot be distinguished. A client that may not connect gets the refusal as a reply and takes no session slot; a
//! client that has used its share waits for one of its own sessions to end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::write;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::connection::{Stream, Transport, handshake};
use super::session::{Rules, Session};
use super::shares::{CountedConnection, Places, connect};
use super::tls;
use crate::config::{AuthMode, Dialect, Listener, Settings, TlsMode};
use crate::intake::{Desk, Origin};
use crate::queue::{Client, Marks};
use crate::report::Event;
use crate::system::interfaces::Address;
use crate::system::leases::{Reach, reach};
use crate::system::{ordered, task};

/// How long a message that is being received at shutdown may take to arrive completely.
const STOP_TIME: Duration = Duration::from_secs(3);
/// How long a connection waits for a session slot. Most devices give up earlier.
const PLACE_TIME: Duration = Duration::from_secs(300);
/// The reply to clients that got no slot.
const NO_PLACE: &str = "421 4.7.0 Too many connections from your address";
/// Refused connections that are kept open until the client has read the reason; beyond this number they are closed at
/// once.
const REFUSED: usize = 32;
/// How long a client may take to read it.
const REFUSED_TIME: Duration = Duration::from_secs(2);

/// Name of the socket in the spool directory through which local programs submit mail (`smtprelay send`).
pub const LOCAL_SOCKET: &str = "submit.sock";
/// Concurrent connections of one user; more are refused.
const LOCAL_CONNECTIONS: u32 = 256;
/// Concurrent sessions, of which one user gets a quarter; more wait.
const LOCAL_SESSIONS: u32 = 128;

/// The networks that may send through a listener: those named in the settings, or else the subnets directly connected
/// to the interfaces it listens on, and this host itself. The default is never "everyone".
pub fn allowed(listener: &Listener, host: &[Address]) -> Vec<IpNet> {
    if !listener.allow.is_empty() {
        return listener.allow.clone();
    }
    let listened = |address: &&Address| {
        listener.interfaces.contains(&address.interface)
            || listener.addresses.iter().any(|ip| ip.is_unspecified() || *ip == address.ip)
    };
    // A public address is most likely the uplink, whose subnet is full of strangers.
    let private = |address: &&Address| match address.ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    };
    let named = |address: &&Address| listener.interfaces.contains(&address.interface);
    let mut nets: Vec<IpNet> = host
        .iter()
        .filter(|address| listened(address) && (private(address) || named(address)))
        .map(|address| address.net)
        .collect();
    nets.extend(["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse::<IpNet>().ok()));
    nets.sort();
    nets.dedup();
    nets
}

/// Whether `client` is in one of `nets`.
pub fn may_send(client: IpAddr, nets: &[IpNet]) -> bool {
    let client = client.to_canonical();
    nets.iter().any(|net| net.contains(&client))
}

/// A listener as its accept loop sees it.
pub(super) struct Door {
    pub(super) rules: Arc<Rules>,
    pub(super) nets: Vec<IpNet>,
}

/// Accepts until shutdown, or until the sender of `door` is dropped; existing sessions then continue until they end by
/// themselves. Sessions over the limit wait: a late session is better than none.
pub(super) async fn accept(
    (socket, open): (TcpListener, oneshot::Sender<()>),
    mut door: watch::Receiver<Arc<Door>>,
    desk: Desk,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places::new(door.borrow().rules.listener.max_sessions);
    let mut sessions = JoinSet::new();
    let order = stop.clone();
    loop {
        while sessions.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = ordered(&mut stop) => break,
            changed = door.changed() => match changed {
                Ok(()) => {
                    places.resize(door.borrow_and_update().rules.listener.max_sessions);
                    continue;
                }
                Err(_) => break,
            },
            // What is left of it goes at once: until the next client comes, it would keep memory of a busy hour.
            Some(_) = sessions.join_next() => continue,
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
        let door = door.borrow().clone();
        let ip = peer.ip().to_canonical();
        match let_in(ip, &door) {
            Ok(connection) => {
                let guest = Guest { stream, peer, door, connection };
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
    drop(open);
    tokio::select! {
        () = ordered(&mut stop) => {}
        () = ended(&mut sessions) => return,
    }
    let _ = tokio::time::timeout(STOP_TIME, ended(&mut sessions)).await;
}

async fn ended(sessions: &mut JoinSet<()>) {
    while sessions.join_next().await.is_some() {}
}

/// A client that was admitted.
struct Guest {
    stream: TcpStream,
    peer: SocketAddr,
    door: Arc<Door>,
    connection: CountedConnection,
}

/// The client at `peer`. An IPv6 address alone does not tell: the kernel is asked, by a thread since it may be busy.
async fn client_at(peer: SocketAddr) -> Client {
    let ip = peer.ip().to_canonical();
    let known = match (ip, peer) {
        (IpAddr::V6(ip), SocketAddr::V6(peer)) if !ip.is_loopback() => {
            task::intake(move || Client::reached(ip, reach(ip, peer.scope_id()))).await
        }
        _ => None,
    };
    known.unwrap_or_else(|| Client::at(Some(ip)))
}

const TOO_MANY: &str = "too many open connections from this client";

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
    // Whose address it is will be known soon. Until then it counts for itself alone, not for all of its network.
    let client = match ip {
        IpAddr::V6(ip) => Client::reached(ip, Reach::Connected),
        ip => Client::at(Some(ip)),
    };
    connect(client, limit).ok_or((NO_PLACE, TOO_MANY))
}

async fn serve(guest: Guest, places: Places, desk: Desk, mut stop: watch::Receiver<bool>) {
    let Guest { stream, peer, door, connection } = guest;
    // Replies are short and the client waits for them.
    let _ = stream.set_nodelay(true);
    let listener = &door.rules.listener;
    let (ip, client) = (peer.ip().to_canonical(), client_at(peer).await);
    let Some(_connection) = connection.of(client, listener.max_sessions_per_client) else {
        Event::Refused { client: ip.to_string(), reason: TOO_MANY.into() }.log();
        return turn_away(stream, NO_PLACE);
    };
    let place = tokio::select! {
        place = places.enter(client, PLACE_TIME) => place,
        () = ordered(&mut stop) => return turn_away(stream, "421 4.3.2 Service shutting down, try again later"),
    };
    let Some(_place) = place else {
        let reason = format!("no session became free within {} s", PLACE_TIME.as_secs());
        Event::Refused { client: ip.to_string(), reason }.log();
        return turn_away(stream, NO_PLACE);
    };
    let marks = Marks { owner: client.to_record(), ..Marks::default() };
    let origin = Origin { client: Some(ip), protocol: "SMTP", marks, ..Origin::default() };
    let rules = Arc::clone(&door.rules);
    let (mut stream, mut version): (Stream, _) = (Box::new(stream), None);
    if let (TlsMode::Implicit, Some(acceptor)) = (rules.listener.tls, &rules.tls) {
        match handshake(acceptor, stream).await {
            Ok((protected, found)) => (stream, version) = (protected, Some(found)),
            Err(error) => return Event::Aborted { client: origin.name(), reason: tls::explain(&error) }.log(),
        }
    }
    Session::new(stream, version, rules, desk, origin).run(stop).await;
}

/// Refuses a connection. Waits a moment for the client to read the reply, unless too many connections are waiting
/// already: a connection that is closed with unread data is reset, and some clients then never see the reply. Takes no
/// session slot and does not block the caller.
fn turn_away<S: Transport + AsFd + 'static>(stream: S, reply: &str) {
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

/// Accepts mail from programs on this host. Every user who can reach the socket may send, as with any `sendmail`.
///
/// # Errors
/// If the socket cannot be created.
pub fn open_local(directory: &Path) -> Result<UnixListener, String> {
    let path = directory.join(LOCAL_SOCKET);
    let cannot = |error: io::Error| format!("cannot listen on {}: {error}", path.display());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    let socket = UnixListener::bind(&path).map_err(cannot)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&path, open).map_err(cannot)?;
    Ok(socket)
}

/// Serves the local socket until shutdown. Local users are trusted no more than devices: each user has a share, and
/// further connections wait.
pub async fn run_local(
    socket: UnixListener,
    settings: watch::Receiver<Arc<Settings>>,
    desk: Desk,
    mut stop: watch::Receiver<bool>,
) {
    let order = stop.clone();
    let places = Places::new(LOCAL_SESSIONS);
    let mut sessions = JoinSet::new();
    loop {
        while sessions.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = ordered(&mut stop) => break,
            Some(_) = sessions.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        // Clients whose user cannot be determined share one identity.
        let user = Client::user(stream.peer_cred().map_or(u32::MAX, |peer| peer.uid()));
        let Some(connection) = connect(user, LOCAL_CONNECTIONS) else {
            let reason = "a program on this host has too many open connections to submit.sock".to_string();
            Event::Refused { client: Origin::default().name(), reason }.log();
            turn_away(stream, NO_PLACE);
            continue;
        };
        let current = settings.borrow().clone();
        // Requirements for devices do not apply to this host's own programs, which can send without any listener too.
        let listener = current.listeners.first().cloned().unwrap_or_default();
        let listener = Listener { auth: AuthMode::Ignore, dialect: Dialect::Tolerant, ..listener };
        let marks = Marks { owner: user.to_record(), ..Marks::default() };
        let origin = Origin { helo: "localhost".into(), protocol: "SMTP", marks, ..Origin::default() };
        let (places, desk, order) = (places.clone(), desk.clone(), order.clone());
        let session: task::Boxed<()> = Box::pin(async move {
            match places.enter(user, PLACE_TIME).await {
                Some(_place) => {
                    let rules = Arc::new(Rules::new(listener, &current, None));
                    Session::new(Box::new(stream), None, rules, desk, origin).run(order).await;
                }
                None => turn_away(stream, NO_PLACE),
            }
            drop(connection);
        });
        sessions.spawn(session);
    }
    let _ = tokio::time::timeout(STOP_TIME, ended(&mut sessions)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, uci};
    use crate::system::interfaces::Networks;
    use crate::system::interfaces::by_name;

    fn host() -> Vec<Address> {
        let address = |interface: &str, ip: &str, net: &str| Address {
            interface: interface.into(),
            ip: ip.parse().unwrap(),
            net: net.parse().unwrap(),
            scope: 0,
        };
        let kernel = [
            address("lo", "127.0.0.1", "127.0.0.0/8"),
            address("br-lan", "192.168.1.1", "192.168.1.0/24"),
            address("br-lan", "2001:db8:1::1", "2001:db8:1::/64"),
            address("wan", "203.0.113.9", "203.0.113.0/24"),
            address("guest", "10.9.0.1", "10.9.0.0/16"),
        ];
        by_name(&kernel, &Networks::default())
    }

    fn nets(listener: &str) -> Vec<String> {
        let package = uci::parse(format!("config listener 'l'\n{listener}").as_bytes()).unwrap();
        let (settings, _) = load::settings(&package);
        allowed(&settings.listeners[0], &host()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_setting_only_the_own_networks_may_send() {
        assert_eq!(nets("list interface 'lan'"), ["127.0.0.0/8", "192.168.1.0/24", "::1/128", "2001:db8:1::/64"]);
        assert_eq!(nets("list address '10.9.0.1'"), ["10.9.0.0/16", "127.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn no_default_lets_the_uplink_in() {
        for listener in ["list address '0.0.0.0'", "list address '::'", "list address '203.0.113.9'"] {
            let nets: Vec<IpNet> = nets(listener).iter().map(|n| n.parse().unwrap()).collect();
            assert!(!may_send("203.0.113.77".parse().unwrap(), &nets), "{listener}");
            assert!(!may_send("8.8.8.8".parse().unwrap(), &nets), "{listener}");
            assert!(!may_send("2a00::1".parse().unwrap(), &nets), "{listener}");
            assert!(may_send("127.0.0.1".parse().unwrap(), &nets), "{listener}");
        }
    }

    /// There may be hundreds of sessions that never say anything.
    #[test]
    fn a_session_that_waits_is_small() {
        fn size<F: Future>(_: impl FnOnce(Guest, Places, Desk, watch::Receiver<bool>) -> F) -> usize {
            std::mem::size_of::<F>()
        }
        let size = size(serve) + std::mem::size_of::<Session>();
        assert!(size <= 4 << 10, "{size} bytes");
    }

    #[test]
    fn mapped_addresses_are_the_addresses_they_stand_for() {
        let nets = ["192.168.1.0/24".parse().unwrap()];
        assert!(may_send("::ffff:192.168.1.7".parse().unwrap(), &nets));
        assert!(!may_send("::ffff:192.168.2.7".parse().unwrap(), &nets));
    }
}
