//! Sockets: binds the addresses that the settings name, follows them as they come and go, and starts sessions.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::sys::socket::{setsockopt, sockopt::Ipv6V6Only};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::access::{Clients, allowed, may_send};
use super::session::{Rules, Session};
use crate::config::{Listener, Settings};
use crate::intake::{Desk, Origin};
use crate::report::Event;
use crate::system::interfaces::{self, Address, is_named};
use crate::system::{ordered, task};

/// Connections that the kernel keeps for us: a whole site's devices may report the same power cut at once.
const BACKLOG: u32 = 1024;
/// How often addresses are looked at again.
const FOLLOW: Duration = Duration::from_secs(5);
/// How long a message that is being received at the order to stop may take to arrive.
const STOP_TIME: Duration = Duration::from_secs(3);

/// A listener as its accept loop sees it.
struct Door {
    rules: Arc<Rules>,
    nets: Vec<IpNet>,
}

struct Bound {
    door: watch::Sender<Arc<Door>>,
    task: JoinHandle<()>,
}

/// All sockets that are open.
pub struct Listeners {
    settings: watch::Receiver<Arc<Settings>>,
    desk: Desk,
    stop: watch::Receiver<bool>,
    bound: HashMap<(String, SocketAddr), Bound>,
    /// What was last said about addresses that could not be bound, so that it is said once.
    complaint: Option<String>,
}

/// Addresses that a listener stands for now.
fn wanted(listener: &Listener, host: &[Address]) -> Vec<SocketAddr> {
    let socket = |ip: IpAddr, scope| match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, listener.port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, listener.port, 0, scope).into(),
    };
    let fixed = listener.addresses.iter().map(|ip| socket(*ip, 0));
    let named = |address: &&Address| listener.interfaces.iter().any(|name| is_named(&address.interface, name));
    let followed = host.iter().filter(named).map(|address| socket(address.ip, address.scope));
    let mut all: Vec<SocketAddr> = fixed.chain(followed).collect();
    all.sort();
    all.dedup();
    all
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // `::` means IPv6 only, so that it can stand beside `0.0.0.0`.
        setsockopt(&socket.as_fd(), Ipv6V6Only, &true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => ": another mail server runs here, stop it or choose another port",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need root",
        io::ErrorKind::AddrNotAvailable => ": no interface has this address now",
        _ => "",
    };
    format!("can't listen on {address}: {error}{remedy}")
}

/// What sessions need to know of the settings.
fn rules(listener: &Listener, settings: &Settings) -> Arc<Rules> {
    Arc::new(Rules {
        listener: listener.clone(),
        hostname: settings.relay.hostname(),
        size_limit: settings.relay.message_limit.min(settings.relay.spool_limit),
        admin: settings.relay.admin.clone(),
        fallback_from: settings.accounts.first().map(|a| a.from.clone()).unwrap_or_default(),
    })
}

impl Listeners {
    /// Opens what can be opened now.
    ///
    /// # Errors
    /// When a fixed address can't be bound: then the settings are wrong, or something else runs there. Addresses of
    /// interfaces may come later.
    pub fn open(
        settings: watch::Receiver<Arc<Settings>>,
        desk: Desk,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, String> {
        let mut listeners = Self { settings, desk, stop, bound: HashMap::new(), complaint: None };
        let (fatal, _) = listeners.follow();
        match fatal {
            Some(reason) => Err(reason),
            None => Ok(listeners),
        }
    }

    /// Follows settings and addresses until the order to stop.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        let mut settings = self.settings.clone();
        loop {
            tokio::select! {
                () = ordered(&mut stop) => break,
                Ok(()) = settings.changed() => {}
                () = tokio::time::sleep(FOLLOW) => {}
            }
            let (fatal, missing) = self.follow();
            let complaint = fatal.or(missing);
            if complaint != self.complaint
                && let Some(text) = &complaint
            {
                Event::Advice { text: text.clone() }.log();
            }
            self.complaint = complaint;
        }
        for (_, bound) in self.bound.drain() {
            let _ = bound.task.await;
        }
    }

    /// Makes the open sockets those that are wanted. Returns what fixed addresses could not be bound, and what is
    /// missing on interfaces.
    fn follow(&mut self) -> (Option<String>, Option<String>) {
        let settings = self.settings.borrow_and_update().clone();
        // Only asked for when the answer is needed (and never under qemu's big-endian MIPS, where it does not come).
        let depends = |listener: &Listener| !listener.interfaces.is_empty() || listener.allow.is_empty();
        let host = match settings.listeners.iter().any(depends) {
            true => interfaces::addresses().unwrap_or_default(),
            false => Vec::new(),
        };
        let (mut fatal, mut missing) = (None, None);
        let mut keep = Vec::new();
        for listener in &settings.listeners {
            let addresses = wanted(listener, &host);
            if addresses.is_empty() {
                missing = Some(format!(
                    "the network {} has no address now; devices can't connect",
                    listener.interfaces.join(", ")
                ));
            }
            for address in addresses {
                let key = (listener.name.clone(), address);
                let door = Arc::new(Door { rules: rules(listener, &settings), nets: allowed(listener, &host) });
                keep.push(key.clone());
                if let Some(bound) = self.bound.get(&key) {
                    bound.door.send_replace(door);
                    continue;
                }
                match bind(address).and_then(|socket| Ok((socket.local_addr()?, socket))) {
                    Ok((local, socket)) => {
                        Event::Listening { listener: listener.name.clone(), address: local.ip(), port: local.port() }
                            .log();
                        let (door, seen) = watch::channel(door);
                        let task = task::spawn(accept(socket, seen, self.desk.clone(), self.stop.clone()));
                        self.bound.insert(key, Bound { door, task });
                    }
                    Err(error) if listener.addresses.contains(&address.ip()) => fatal = Some(explain(address, &error)),
                    Err(error) => missing = Some(explain(address, &error)),
                }
            }
        }
        self.bound.retain(|key, bound| {
            let wanted = keep.contains(key);
            if !wanted {
                // Only the accept loop ends; its sessions go on.
                bound.task.abort();
            }
            wanted
        });
        (fatal, missing)
    }
}

/// Accepts until the order to stop. Sessions over the limit wait in the kernel's backlog: late is better than never.
async fn accept(
    socket: TcpListener,
    mut door: watch::Receiver<Arc<Door>>,
    desk: Desk,
    mut stop: watch::Receiver<bool>,
) {
    let limit = door.borrow().rules.listener.max_sessions;
    let places = Arc::new(Semaphore::new(usize::try_from(limit).unwrap_or(Semaphore::MAX_PERMITS)));
    let clients = Clients::default();
    let mut sessions = JoinSet::new();
    let order = stop.clone();
    loop {
        while sessions.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, socket.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = ordered(&mut stop) => break,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                Event::Advice { text: format!("can't accept a connection: {error}") }.log();
                // Out of file descriptors, most likely: some session will end.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let door = door.borrow_and_update().clone();
        let ip = peer.ip().to_canonical();
        let session = serve(stream, ip, door, clients.clone(), desk.clone(), order.clone());
        let session: task::Boxed<()> = Box::pin(async move {
            session.await;
            drop(place);
        });
        sessions.spawn(session);
    }
    drop(socket);
    let _ = tokio::time::timeout(STOP_TIME, async { while sessions.join_next().await.is_some() {} }).await;
}

async fn serve(
    stream: TcpStream,
    ip: IpAddr,
    door: Arc<Door>,
    clients: Clients,
    desk: Desk,
    stop: watch::Receiver<bool>,
) {
    // Replies are short and the other side waits for them.
    let _ = stream.set_nodelay(true);
    if !may_send(ip, &door.nets) {
        let text = "it is in none of the networks that may send; add its network with list allow if it should";
        Event::Refused { client: ip.to_string(), reason: text.into() }.log();
        turn_away(stream, b"554 5.7.1 This gateway takes no mail from your address\r\n").await;
        return;
    }
    let Some(_place) = clients.enter(ip, door.rules.listener.max_sessions_per_client) else {
        Event::Refused { client: ip.to_string(), reason: "it has too many connections open".into() }.log();
        turn_away(stream, b"421 4.7.0 Too many connections from your address\r\n").await;
        return;
    };
    let origin = Origin { client: Some(ip), helo: String::new(), protocol: "SMTP", notice: false };
    Session::new(stream, Arc::clone(&door.rules), desk, origin).run(stop).await;
}

/// Says no and waits a moment for the other side to read it.
async fn turn_away(mut stream: TcpStream, reply: &[u8]) {
    let _ = tokio::time::timeout(Duration::from_secs(2), async {
        stream.write_all(reply).await?;
        stream.shutdown().await?;
        let mut waste = [0; 256];
        for _ in 0..64 {
            if tokio::io::AsyncReadExt::read(&mut stream, &mut waste).await? == 0 {
                break;
            }
        }
        Ok::<_, io::Error>(())
    })
    .await;
}

/// Name of the socket in the spool directory on which local programs hand in mail (`smtprelay send`).
pub const LOCAL_SOCKET: &str = "submit.sock";

/// Takes mail of programs on this host. Everybody who can reach the socket may send, as with any `sendmail`.
///
/// # Errors
/// When the socket can't be made.
pub fn open_local(directory: &Path) -> Result<UnixListener, String> {
    let path = directory.join(LOCAL_SOCKET);
    let cannot = |error: io::Error| format!("can't listen on {}: {error}", path.display());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    let socket = UnixListener::bind(&path).map_err(cannot)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&path, open).map_err(cannot)?;
    Ok(socket)
}

/// Serves the local socket until the order to stop.
pub async fn run_local(
    socket: UnixListener,
    settings: watch::Receiver<Arc<Settings>>,
    desk: Desk,
    mut stop: watch::Receiver<bool>,
) {
    let order = stop.clone();
    let mut sessions = JoinSet::new();
    loop {
        while sessions.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = ordered(&mut stop) => break,
            accepted = socket.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let current = settings.borrow().clone();
        let Some(listener) = current.listeners.first() else { continue };
        let origin = Origin { client: None, helo: "localhost".into(), protocol: "SMTP", notice: false };
        let session = Session::new(stream, rules(listener, &current), desk.clone(), origin);
        let session: task::Boxed<()> = Box::pin(session.run(order.clone()));
        sessions.spawn(session);
    }
    let _ = tokio::time::timeout(STOP_TIME, async { while sessions.join_next().await.is_some() {} }).await;
}
