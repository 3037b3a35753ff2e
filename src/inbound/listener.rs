//! Sockets: binds the addresses that the settings name, and follows them as they come and go.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::Ipv6V6Only};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::access::allowed;
use super::door::{Door, accept};
use super::session::Rules;
use super::tls;
use crate::config::{Listener, Settings, TlsMode};
use crate::intake::Desk;
use crate::report::Event;
use crate::system::interfaces::{self, Address};
use crate::system::{networks, ordered, task};

/// Connections that the kernel keeps for us: a whole site's devices may report the same power cut at once.
const BACKLOG: u32 = 1024;
/// How often addresses are looked at again.
const FOLLOW: Duration = Duration::from_secs(5);

struct Bound {
    door: watch::Sender<Arc<Door>>,
    /// The accept loop.
    task: Option<JoinHandle<()>>,
}

/// All sockets that are open.
pub struct Listeners {
    settings: watch::Receiver<Arc<Settings>>,
    desk: Desk,
    stop: watch::Receiver<bool>,
    bound: HashMap<(String, SocketAddr), Bound>,
    /// Accept loops of addresses that are gone, as long as they have sessions.
    leaving: Vec<JoinHandle<()>>,
    /// What TLS needs, by the name of the listener.
    tls: HashMap<String, TlsAcceptor>,
    /// What keeps a listener with TLS from starting.
    tls_trouble: Option<String>,
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
    let named = |address: &&Address| listener.interfaces.contains(&address.interface);
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

/// Addresses of this host, asked for only when the answer is needed (and never under qemu's big-endian MIPS, where it
/// does not come).
fn host_addresses(settings: &Settings, needed: impl Fn(&Listener) -> bool) -> Vec<Address> {
    match settings.listeners.iter().any(needed) {
        true => interfaces::named(),
        false => Vec::new(),
    }
}

/// Certificates and keys of all listeners with TLS, and what is wrong with those that can't be used. Reads files.
fn load_tls(settings: &Settings) -> (HashMap<String, TlsAcceptor>, Option<String>) {
    let protected = |listener: &Listener| listener.tls != TlsMode::None;
    let host = host_addresses(settings, |listener| protected(listener) && !listener.interfaces.is_empty());
    let (mut loaded, mut trouble) = (HashMap::new(), None);
    for listener in settings.listeners.iter().filter(|listener| protected(listener)) {
        let addresses =
            wanted(listener, &host).iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect::<Vec<_>>();
        match tls::acceptor(listener, &settings.relay, &addresses) {
            Ok(acceptor) => _ = loaded.insert(listener.name.clone(), acceptor),
            Err(error) => trouble = Some(format!("listener '{}' can't offer TLS: {error}", listener.name)),
        }
    }
    (loaded, trouble)
}

impl Listeners {
    /// Opens what can be opened now.
    ///
    /// # Errors
    /// When a fixed address can't be bound: then the settings are wrong, or something else runs there. Addresses of
    /// interfaces may come later. Also when a certificate can't be used and no other listener is left.
    pub fn open(
        settings: watch::Receiver<Arc<Settings>>,
        desk: Desk,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, String> {
        let (tls, tls_trouble) = load_tls(&settings.borrow());
        let mut listeners = Self {
            settings,
            desk,
            stop,
            bound: HashMap::new(),
            leaving: Vec::new(),
            tls,
            tls_trouble: None,
            complaint: None,
        };
        let (fatal, _) = listeners.follow();
        let alone = tls_trouble.clone().filter(|_| listeners.bound.is_empty());
        if let Some(reason) = fatal.or(alone) {
            return Err(reason);
        }
        listeners.tls_is(tls_trouble);
        Ok(listeners)
    }

    /// Says what is wrong with certificates, once.
    fn tls_is(&mut self, trouble: Option<String>) {
        if trouble != self.tls_trouble
            && let Some(text) = &trouble
        {
            Event::Advice { text: text.clone() }.log();
        }
        self.tls_trouble = trouble;
    }

    /// Takes over certificates as they are now. Where they can't be used, the old ones stay.
    async fn renew_tls(&mut self) {
        let settings = self.settings.borrow().clone();
        // Only at the end of the program does the pool refuse work.
        let Some((loaded, trouble)) = task::blocking(move || load_tls(&settings)).await else { return };
        self.tls.extend(loaded);
        self.tls_is(trouble);
    }

    /// Follows settings and addresses until the order to stop.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        let mut settings = self.settings.clone();
        let mut networks = networks::follow();
        loop {
            tokio::select! {
                () = ordered(&mut stop) => break,
                Ok(()) = settings.changed() => self.renew_tls().await,
                Ok(()) = networks.changed() => {}
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
        for task in self.bound.drain().filter_map(|(_, bound)| bound.task).chain(self.leaving) {
            let _ = task.await;
        }
    }

    /// Makes the open sockets those that are wanted. Returns what fixed addresses could not be bound, and what is
    /// missing on interfaces.
    fn follow(&mut self) -> (Option<String>, Option<String>) {
        let settings = self.settings.borrow_and_update().clone();
        let host = host_addresses(&settings, |listener| !listener.interfaces.is_empty() || listener.allow.is_empty());
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
                keep.push(key.clone());
                let tls = self.tls.get(&listener.name).filter(|_| listener.tls != TlsMode::None);
                if tls.is_none() && listener.tls != TlsMode::None {
                    // Without its certificate it does not start; if it runs, it goes on as it is.
                    continue;
                }
                let rules = Arc::new(Rules::new(listener.clone(), &settings, tls.cloned()));
                let door = Arc::new(Door { rules, nets: allowed(listener, &host) });
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
                        self.bound.insert(key, Bound { door, task: Some(task) });
                    }
                    Err(error) if listener.addresses.contains(&address.ip()) => fatal = Some(explain(address, &error)),
                    Err(error) => missing = Some(explain(address, &error)),
                }
            }
        }
        let leaving = &mut self.leaving;
        self.bound.retain(|key, bound| {
            let wanted = keep.contains(key);
            if !wanted {
                // With its door gone an accept loop ends; its sessions go on.
                leaving.extend(bound.task.take());
            }
            wanted
        });
        self.leaving.retain(|task| !task.is_finished());
        (fatal, missing)
    }
}
