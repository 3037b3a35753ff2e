//! The accept loop of one address: lets in who may come in, and starts sessions.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::access::{Clients, may_send};
use super::session::{Rules, Session};
use super::talk::Stream;
use super::tls;
use crate::config::TlsMode;
use crate::intake::{Desk, Origin};
use crate::report::Event;
use crate::system::{ordered, task};

/// How long a message that is being received at the order to stop may take to arrive.
pub(super) const STOP_TIME: Duration = Duration::from_secs(3);

/// A listener as its accept loop sees it.
pub(super) struct Door {
    pub(super) rules: Arc<Rules>,
    pub(super) nets: Vec<IpNet>,
}

/// Accepts until the order to stop, or until the other end of `door` is gone: then its sessions go on until they end by
/// themselves. Sessions over the limit wait in the kernel's backlog: late is better than never.
pub(super) async fn accept(
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
    let mut taken_away = door.clone();
    loop {
        while sessions.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, socket.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = ordered(&mut stop) => break,
            () = closed(&mut taken_away) => break,
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
