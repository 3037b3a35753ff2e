// SPDX-License-Identifier: Apache-2.0
//! Binds the addresses named in the settings and follows them as they appear and disappear. The process opens listening
//! sockets itself while it may; later root hands them over.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener as StdListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{IpFreebind, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};
use nix::unistd::geteuid;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::accept::{Door, accept, allowed};
use super::session::Rules;
use super::tls;
use crate::config::{Listener, Settings, TlsMode};
use crate::intake::Desk;
use crate::report::Event;
use crate::system::addresses::AddressChanges;
use crate::system::interfaces::{self, Address};
use crate::system::lock;
use crate::system::{ordered, task};

/// How often an address that could not be bound is tried again, and how often the addresses of the host are looked at if
/// the kernel does not tell of changes.
const FOLLOW: Duration = Duration::from_secs(5);
/// How often they are looked at if it does.
const LOOK: Duration = Duration::from_secs(60);
/// Changes of addresses come in bursts.
const SETTLE: Duration = Duration::from_millis(200);

struct Bound {
    /// The actual address: the settings may leave the port open.
    local: SocketAddr,
    door: watch::Sender<Arc<Door>>,
    /// The accept loop.
    task: JoinHandle<()>,
    /// Ends when the socket is closed.
    closed: oneshot::Receiver<()>,
}

/// All open listening sockets.
pub struct Listeners {
    settings: watch::Receiver<Arc<Settings>>,
    desk: Desk,
    stop: watch::Receiver<bool>,
    bound: HashMap<Key, Bound>,
    /// Accept loops whose addresses are no longer configured; their sessions continue.
    closing: Vec<JoinHandle<()>>,
    sockets: Arc<Sockets>,
    shown: watch::Sender<Vec<Shown>>,
    /// How the listeners encrypt, by name. It stays when new certificates cannot be used.
    tls: HashMap<String, Encryption>,
    /// Why the certificates of a listener cannot be used, by its name.
    tls_trouble: HashMap<String, String>,
    /// When all of them were last tried.
    tls_tried: Instant,
    /// What the log says about the listeners now, so that it is logged once.
    complaints: Vec<String>,
}

/// How a listener encrypts.
#[derive(Clone)]
enum Encryption {
    With(TlsAcceptor),
    /// It is open on this port, and does not.
    Without(u16),
}

/// A listener by name, and one of its addresses as in the settings.
type Key = (String, SocketAddr);

/// A listener as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Name of its section.
    pub name: String,
    /// The address it listens on, or would listen on.
    pub address: Option<SocketAddr>,
    /// Whether devices can connect there.
    pub open: bool,
    /// How connections are encrypted.
    pub tls: TlsMode,
    /// Why it does not work as configured.
    pub note: Option<String>,
    /// Whether root could open it.
    pub needs_root: bool,
}

impl Shown {
    fn text(&self) -> String {
        format!("listener '{}': {}", self.name, self.note.as_deref().unwrap_or("it is not open"))
    }
}

/// Why devices cannot connect where they cannot, each reason once.
pub fn obstacles_of(shown: &[Shown]) -> Vec<String> {
    let mut all: Vec<String> = shown.iter().filter(|shown| !shown.open).map(Shown::text).collect();
    all.dedup();
    all
}

/// Why devices could not connect if a gateway with these settings were started now: `held` are the addresses of the
/// gateway that is running, as in the settings. Ports that only root can bind are left out for other users. Nothing
/// stays open, and nobody can connect meanwhile.
pub fn obstacles(settings: &Settings, held: &[String]) -> Vec<String> {
    let host = host_addresses(settings, |listener| !listener.interfaces.is_empty());
    let mut found = Vec::new();
    let claims = claims(settings, &host, |_| false);
    for listener in &settings.listeners {
        let mut add = |text: String| found.push(format!("listener '{}': {text}", listener.name));
        let addresses = wanted(listener, &host);
        if addresses.is_empty() {
            add(no_address(listener));
        }
        let (mut own, mut shared) = (false, Vec::new());
        for address in addresses.into_iter().filter(|address| address.port() != 0) {
            if let Some(text) = taken(&claims, &listener.name, address) {
                if may_be_shared(listener, address) {
                    shared.push(text);
                } else {
                    add(text);
                }
                continue;
            }
            own = true;
            if parsed(held).any(|held| overlap(held, address)) {
                continue;
            }
            match bound(address) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied && !geteuid().is_root() => {}
                Err(error) => add(explain(address, &error)),
                Ok(_) => {}
            }
        }
        if !own {
            shared.into_iter().for_each(add);
        }
    }
    found
}

fn parsed(addresses: &[impl AsRef<str>]) -> impl Iterator<Item = SocketAddr> {
    addresses.iter().filter_map(|address| address.as_ref().parse().ok())
}

/// Whether `address` is only taken by a socket of the gateway itself, one of `held`, that it is about to close: it is not
/// `wanted` any more, and one of the two is all of the host.
pub fn comes_free(address: SocketAddr, held: &[impl AsRef<str>], wanted: &[SocketAddr]) -> bool {
    parsed(held).any(|held| overlap(held, address) && !wanted.contains(&held))
}

/// Says which other listener has this address, or one that includes it.
fn taken(claims: &[Key], name: &str, address: SocketAddr) -> Option<String> {
    let (other, there) = claims.iter().find(|(other, there)| other != name && overlap(*there, address))?;
    Some(format!("listener '{other}' already has {there}"))
}

/// Whether it is harmless that another listener has this address: two networks that share an interface have its IPv6
/// addresses in common, and each has others.
fn may_be_shared(listener: &Listener, address: SocketAddr) -> bool {
    address.is_ipv6() && !listener.addresses.contains(&address.ip())
}

/// Whether only one of two sockets can listen: they have one address, or one of them has all of the host.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same = one == other || any && one.is_ipv4() == other.is_ipv4() && one.port() == other.port();
    // Without a port each gets one of its own.
    same && one.port() != 0
}

fn no_address(listener: &Listener) -> String {
    let (networks, has) = match listener.interfaces.as_slice() {
        [one] => (format!("network {one}"), "has"),
        several => (format!("networks {}", several.join(", ")), "have"),
    };
    format!("{networks} {has} no address at the moment")
}

/// All addresses that these settings currently refer to, for a process that may bind them, without those that only one of
/// two listeners can have: the one that comes first in the file has it. Addresses without a port are left out: any port
/// will do, and any user can bind one.
pub fn addresses(settings: &Settings) -> Vec<SocketAddr> {
    let host = host_addresses(settings, |listener| !listener.interfaces.is_empty());
    let all = claims(settings, &host, |_| false).into_iter().map(|(_, address)| address);
    all.filter(|address| address.port() != 0).collect()
}

/// Addresses that a listener currently refers to.
fn wanted(listener: &Listener, host: &[Address]) -> Vec<SocketAddr> {
    let socket = |ip: IpAddr, scope| match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, listener.port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, listener.port, 0, scope).into(),
    };
    let fixed = listener.addresses.iter().map(|ip| socket(*ip, 0));
    let named = |address: &&Address| listener.interfaces.contains(&address.interface);
    let followed = host.iter().filter(named).map(|address| socket(address.ip, address.scope));
    let mut all: Vec<SocketAddr> = fixed.chain(followed).collect();
    // One that means all of them includes the others.
    let any: Vec<SocketAddr> = all.iter().copied().filter(|one| one.ip().is_unspecified()).collect();
    all.retain(|one| any.contains(one) || !any.iter().any(|any| overlap(*any, *one)));
    all.sort();
    all.dedup();
    all
}

/// The addresses of this host, queried only if they are needed (and never under qemu's big-endian MIPS, where no answer
/// arrives).
fn host_addresses(settings: &Settings, needed: impl Fn(&Listener) -> bool) -> Vec<Address> {
    match settings.listeners.iter().any(needed) {
        true => interfaces::named(),
        false => Vec::new(),
    }
}

/// Loads certificates and keys of those TLS listeners that are to be `tried`, and returns what is wrong with those that
/// cannot be used. Reads files.
fn load_tls(
    settings: &Settings,
    tried: impl Fn(&Listener) -> bool,
) -> (HashMap<String, TlsAcceptor>, HashMap<String, String>) {
    let tried = |listener: &Listener| listener.tls != TlsMode::None && tried(listener);
    let host = host_addresses(settings, |listener| tried(listener) && !listener.interfaces.is_empty());
    let (mut loaded, mut trouble) = (HashMap::new(), HashMap::new());
    for listener in settings.listeners.iter().filter(|listener| tried(listener)) {
        let addresses =
            wanted(listener, &host).iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect::<Vec<_>>();
        match tls::acceptor(listener, &settings.relay, &addresses) {
            Ok(acceptor) => _ = loaded.insert(listener.name.clone(), acceptor),
            Err(error) => _ = trouble.insert(listener.name.clone(), error),
        }
    }
    (loaded, trouble)
}

/// Which listener has which address: of two that cannot both be open the one that has it `already`, otherwise the one that
/// comes first in the file.
fn claims(settings: &Settings, host: &[Address], already: impl Fn(&Key) -> bool) -> Vec<Key> {
    let of = |listener: &Listener| -> Vec<Key> {
        wanted(listener, host).into_iter().map(|address| (listener.name.clone(), address)).collect()
    };
    let (first, then): (Vec<Key>, Vec<Key>) = settings.listeners.iter().flat_map(of).partition(already);
    let mut claims: Vec<Key> = Vec::new();
    for key in first.into_iter().chain(then) {
        if !claims.iter().any(|(_, there)| overlap(*there, key.1)) {
            claims.push(key);
        }
    }
    claims
}

/// Waits until addresses of the host have changed, for ever if the kernel does not tell.
async fn told(changes: Option<&AddressChanges>) -> std::io::Result<()> {
    let Some(changes) = changes else { return std::future::pending().await };
    changes.next().await?;
    tokio::time::sleep(SETTLE).await;
    Ok(())
}

impl Listeners {
    /// Opens what can be opened now. The rest may become possible later: an address appears, another program ends, a
    /// certificate is replaced. Until then it is reported, and the queue is sent all the same.
    pub fn open(
        settings: watch::Receiver<Arc<Settings>>,
        desk: Desk,
        stop: watch::Receiver<bool>,
        sockets: Arc<Sockets>,
    ) -> Self {
        let (loaded, tls_trouble) = load_tls(&settings.borrow(), |_| true);
        let tls = loaded.into_iter().map(|(name, acceptor)| (name, Encryption::With(acceptor))).collect();
        let (bound, shown) = (HashMap::new(), watch::Sender::default());
        let mut listeners = Self {
            settings,
            desk,
            stop,
            bound,
            closing: Vec::new(),
            sockets,
            shown,
            tls,
            tls_trouble,
            tls_tried: Instant::now(),
            complaints: Vec::new(),
        };
        listeners.follow();
        listeners.complain();
        listeners.sockets.close_rest();
        listeners
    }

    /// The state of the listeners, now and after each change.
    pub fn shown(&self) -> watch::Receiver<Vec<Shown>> {
        self.shown.subscribe()
    }

    /// Reloads the certificates after a reload of the settings, and otherwise tries again those that could not be used.
    /// Where the new ones cannot be used, the old ones stay in use.
    async fn renew_tls(&mut self, reloaded: bool) {
        let settings = self.settings.borrow().clone();
        // One that cannot be stored is generated again each time, which costs more than to read it.
        let all = reloaded || self.tls_tried.elapsed() >= LOOK;
        let trouble: Vec<String> = self.tls_trouble.keys().cloned().collect();
        let tried = move |listener: &Listener| {
            reloaded || (all || listener.certificate.is_some()) && trouble.contains(&listener.name)
        };
        // The pool refuses work only when the program is shutting down.
        let Some((loaded, trouble)) = task::blocking(move || load_tls(&settings, tried)).await else { return };
        if all {
            (self.tls_trouble, self.tls_tried) = (HashMap::new(), Instant::now());
        }
        for (name, acceptor) in loaded {
            self.tls_trouble.remove(&name);
            self.tls.insert(name, Encryption::With(acceptor));
        }
        self.tls_trouble.extend(trouble);
    }

    /// Logs where devices cannot connect, and which listeners do not encrypt as configured, once.
    fn complain(&mut self) {
        let shown = self.shown.borrow();
        let obstacles = obstacles_of(&shown);
        let otherwise = shown.iter().filter(|shown| shown.open && self.tls_trouble.contains_key(&shown.name));
        let mut now: Vec<String> = otherwise.map(Shown::text).collect();
        now.extend((!obstacles.is_empty()).then(|| format!("devices cannot connect: {}", obstacles.join("; "))));
        now.dedup();
        drop(shown);
        for text in now.iter().filter(|text| !self.complaints.contains(text)) {
            Event::Advice { text: text.clone() }.log();
        }
        self.complaints = now;
    }

    /// Follows settings and addresses until shutdown.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        let mut settings = self.settings.clone();
        let mut networks = interfaces::follow();
        // Those of before this moment are seen by the first look.
        let mut changes = AddressChanges::new().ok();
        let mut wait = FOLLOW;
        loop {
            let reloaded = tokio::select! {
                () = ordered(&mut stop) => break,
                Ok(()) = settings.changed() => true,
                Ok(()) = networks.changed() => false,
                told = told(changes.as_ref()) => {
                    if told.is_err() {
                        changes = None;
                    }
                    false
                }
                () = task::pause(wait) => false,
            };
            if reloaded || !self.tls_trouble.is_empty() {
                self.renew_tls(reloaded).await;
            }
            if !reloaded && settings.has_changed().is_ok_and(|changed| changed) {
                continue;
            }
            let replaces = reloaded && self.make_room().await;
            self.follow();
            if reloaded {
                self.sockets.close_rest();
            }
            // Root may be about to hand over what could be opened only now.
            if !replaces {
                self.complain();
            }
            let all_open = self.shown.borrow().iter().all(|shown| shown.open);
            wait = if changes.is_some() && all_open { LOOK } else { FOLLOW };
        }
        for task in self.bound.drain().map(|(_, bound)| bound.task).chain(self.closing) {
            let _ = task.await;
        }
    }

    /// A renamed listener keeps its socket, which this process perhaps could not open again.
    fn rename(&mut self, key: &Key, keep: &[Key]) {
        if !self.bound.contains_key(key)
            && let Some(old) = self.holder(key.1).filter(|old| !keep.contains(old)).cloned()
            && let Some(bound) = self.bound.remove(&old)
        {
            if let Some(tls) = self.tls.get(&old.0).cloned() {
                self.tls.entry(key.0.clone()).or_insert(tls);
            }
            self.bound.insert(key.clone(), bound);
        }
    }

    /// Why the listener cannot have this address, and whether root could open it. The system does not tell other users
    /// that a port below 1024 is taken: what was found as root stays.
    fn why_closed(&self, listener: &Listener, address: SocketAddr, error: &io::Error) -> (String, bool) {
        let needs_root = error.kind() == ErrorKind::PermissionDenied && !geteuid().is_root();
        let taken = explain(address, &Errno::EADDRINUSE.into());
        let was_taken = |before: &Shown| {
            before.name == listener.name && before.note.as_ref().is_some_and(|note| note.starts_with(&taken))
        };
        match needs_root && self.shown.borrow().iter().any(was_taken) {
            true => (format!("{taken}, then run 'service smtprelay reload' as root"), true),
            false => (explain(address, error), needs_root),
        }
    }

    /// The listener that currently has this address.
    fn holder(&self, address: SocketAddr) -> Option<&Key> {
        self.bound.keys().find(|(_, bound)| *bound == address && bound.port() != 0)
    }

    /// Closes sockets that are not wanted any more if they are in the way of new ones, as `127.0.0.1` is of `0.0.0.0`.
    /// Returns whether there were any.
    async fn make_room(&mut self) -> bool {
        let settings = self.settings.borrow().clone();
        let host = host_addresses(&settings, |listener| !listener.interfaces.is_empty());
        let keep = claims(&settings, &host, |_| false);
        keep.iter().for_each(|key| self.rename(key, &keep));
        let new: Vec<SocketAddr> =
            keep.iter().filter(|key| !self.bound.contains_key(*key)).map(|(_, address)| *address).collect();
        let in_the_way = |key: &Key| !keep.contains(key) && new.iter().any(|new| overlap(key.1, *new));
        let ending: Vec<Bound> = self.bound.extract_if(|key, _| in_the_way(key)).map(|(_, bound)| bound).collect();
        let found = !ending.is_empty();
        for Bound { door, task, closed, .. } in ending {
            drop(door);
            let _ = closed.await;
            self.closing.push(task);
        }
        found
    }

    /// Brings the open sockets in line with the settings.
    fn follow(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        let host = host_addresses(&settings, |listener| !listener.interfaces.is_empty() || listener.allow.is_empty());
        let keep = claims(&settings, &host, |key| self.bound.contains_key(key));
        keep.iter().for_each(|key| self.rename(key, &keep));
        let mut shown = Vec::new();
        for listener in &settings.listeners {
            let (begin, mut has_own) = (shown.len(), false);
            let addresses = wanted(listener, &host);
            let tls = match (listener.tls, self.tls.get(&listener.name)) {
                (TlsMode::None, _) => Some(None),
                (_, Some(Encryption::With(acceptor))) => Some(Some(acceptor.clone())),
                (_, Some(Encryption::Without(port))) if *port == listener.port => Some(None),
                _ => None,
            };
            let trouble = self.tls_trouble.get(&listener.name).map(|error| match &tls {
                None => format!("cannot offer TLS: {error}"),
                Some(None) => format!("still runs without TLS, and will be closed after a restart: {error}"),
                Some(Some(_)) => {
                    format!("still uses its previous certificate, and will be closed after a restart: {error}")
                }
            });
            let mode = if let Some(None) = tls { TlsMode::None } else { listener.tls };
            let listener = &Listener { tls: mode, ..listener.clone() };
            let mut show = |address, note: Option<&String>, open, needs_root| {
                let (name, note) = (listener.name.clone(), note.cloned());
                shown.push(Shown { name, address, open, tls: listener.tls, note, needs_root });
            };
            if addresses.is_empty() {
                show(None, Some(&no_address(listener)), false, false);
            }
            for address in addresses {
                let key = (listener.name.clone(), address);
                if let Some(text) = taken(&keep, &listener.name, address) {
                    show(Some(address), Some(&text), may_be_shared(listener, address), false);
                    continue;
                }
                let Some(tls) = tls.clone() else {
                    // Root may read a file that this process may not, or no longer sees as it is.
                    show(Some(address), trouble.as_ref(), false, !geteuid().is_root());
                    continue;
                };
                let rules = Arc::new(Rules::new(listener.clone(), &settings, tls));
                let door = Arc::new(Door { rules, nets: allowed(listener, &host) });
                if let Some(bound) = self.bound.get(&key) {
                    show(Some(bound.local), trouble.as_ref(), true, false);
                    bound.door.send_replace(door);
                    has_own = true;
                    continue;
                }
                let opened = self.sockets.open(address).and_then(TcpListener::from_std);
                match opened.and_then(|socket| Ok((socket.local_addr()?, socket))) {
                    Ok((local, socket)) => {
                        show(Some(local), trouble.as_ref(), true, false);
                        Event::Listening { listener: listener.name.clone(), address: local.ip(), port: local.port() }
                            .log();
                        let (door, seen) = watch::channel(door);
                        let (open, closed) = oneshot::channel();
                        let task = task::spawn(accept((socket, open), seen, self.desk.clone(), self.stop.clone()));
                        self.bound.insert(key, Bound { local, door, task, closed });
                        has_own = true;
                    }
                    Err(error) => {
                        let (text, needs_root) = self.why_closed(listener, address, &error);
                        show(Some(address), Some(&text), false, needs_root);
                    }
                }
            }
            if has_own && listener.tls == TlsMode::None {
                self.tls.insert(listener.name.clone(), Encryption::Without(listener.port));
            }
            if !has_own {
                // All of its addresses are those of others, which may have other rules.
                shown.get_mut(begin..).unwrap_or_default().iter_mut().for_each(|shown: &mut Shown| shown.open = false);
            }
        }
        self.tls.retain(|name, _| settings.listeners.iter().any(|listener| listener.name == *name));
        let gone = self.bound.extract_if(|key, _| !keep.contains(key));
        // Without a sender for its `door`, the accept loop admits no new clients; its sessions continue.
        self.closing.extend(gone.map(|(_, bound)| bound.task));
        self.closing.retain(|task| !task.is_finished());
        self.shown.send_if_modified(|old| std::mem::replace(old, shown.clone()) != shown);
    }
}

/// Opens a listening socket, non-blocking as the runtime requires.
///
/// # Errors
/// The error of the system; [`explain`] says what to do.
pub fn open(address: SocketAddr) -> io::Result<StdListener> {
    let socket = bound(address)?;
    // As many connections as the kernel will queue (net.core.somaxconn): all devices of a site may report the same
    // power cut at once. Not a number: nix does not accept one beyond musl's SOMAXCONN, which is 128.
    listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(StdListener::from(socket))
}

/// A socket with this address that does not listen yet.
fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if address.is_ipv6() {
        // `::` means IPv6 only, so that it can coexist with `0.0.0.0`.
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    let place = SockaddrStorage::from(address);
    bind(socket.as_raw_fd(), &place).or_else(|error| {
        // An IPv6 address exists for a second or two before it can be bound, until duplicate address detection is done
        // (RFC 4862 section 5.4). This runs at just that moment, and later the process may no longer be root.
        if error != Errno::EADDRNOTAVAIL || !is_tentative(address) {
            return Err(error);
        }
        setsockopt(&socket, IpFreebind, &true)?;
        bind(socket.as_raw_fd(), &place)
    })?;
    Ok(socket)
}

/// Whether this host has the address, or is about to have it.
fn is_tentative(address: SocketAddr) -> bool {
    address.is_ipv6() && interfaces::addresses().is_ok_and(|all| all.iter().any(|own| own.ip == address.ip()))
}

/// Why listening on the address failed, and what to do about it.
pub fn explain(address: SocketAddr, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => ": another mail server is running on this port, stop it or choose another port",
        io::ErrorKind::PermissionDenied if geteuid().is_root() => ": this system denies it even to root",
        io::ErrorKind::PermissionDenied => ": ports below 1024 require root; run 'service smtprelay reload' as root",
        io::ErrorKind::AddrNotAvailable => ": no interface has this address at the moment",
        _ => "",
    };
    format!("cannot listen on {address}: {error}{remedy}")
}

/// Sockets that root opened and that are not in use yet, by the address in the settings; or why they could not be
/// opened.
#[derive(Default)]
pub struct Sockets(Mutex<HashMap<SocketAddr, io::Result<StdListener>>>);

impl Sockets {
    /// Opens all of these now, for later use.
    pub fn prepare(addresses: &[SocketAddr]) -> Self {
        Self(Mutex::new(addresses.iter().map(|address| (*address, open(*address))).collect()))
    }

    /// Stores sockets that were handed over.
    pub fn add(&self, handed: Vec<(SocketAddr, StdListener)>) {
        let mut waiting = lock(&self.0);
        *waiting = handed.into_iter().map(|(address, socket)| (address, Ok(socket))).collect();
    }

    /// The socket for this address: a stored one, or a new one.
    ///
    /// # Errors
    /// The error of the system, now or when root tried.
    pub fn open(&self, address: SocketAddr) -> io::Result<StdListener> {
        let waiting = lock(&self.0).remove(&address);
        waiting.unwrap_or_else(|| open(address))
    }

    /// Closes those that are not used: a device that connects there would wait in vain.
    pub fn close_rest(&self) {
        lock(&self.0).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_taken_and_the_rest_is_closed() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (first, second) = (open(any).unwrap(), open(any).unwrap());
        let (one, two) = (first.local_addr().unwrap(), second.local_addr().unwrap());
        let sockets = Sockets::default();
        sockets.add(vec![(one, first), (two, second)]);
        assert_eq!(sockets.open(one).unwrap().local_addr().unwrap(), one);
        sockets.close_rest();
        assert!(std::net::TcpStream::connect(two).is_err());
        // It is bound again.
        assert_eq!(sockets.open(two).unwrap().local_addr().unwrap(), two);
    }

    #[test]
    fn what_root_could_not_bind_is_told_as_it_was() {
        let taken = open("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let sockets = Sockets::prepare(&[address]);
        drop(taken);
        let error = sockets.open(address).unwrap_err();
        assert!(explain(address, &error).contains("another mail server is running on this port"), "{error}");
        // The next call tries again.
        assert!(sockets.open(address).is_ok());
    }
}
