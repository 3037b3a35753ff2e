// SPDX-License-Identifier: Apache-2.0
//! The socket through which programs on this host submit mail (`smtprelay send`, `sendmail`).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::accept::{NO_PLACE, PLACE_TIME, STOP_TIME, turn_away};
use super::session::{Rules, Session};
use super::shares::{Owner, Places, connect};
use crate::config::{AuthMode, Dialect, Listener, Settings};
use crate::intake::{Desk, Origin};
use crate::report::Event;
use crate::system::{ordered, task};

/// Name of the socket in the spool directory through which local programs submit mail (`smtprelay send`).
pub const LOCAL_SOCKET: &str = "submit.sock";
/// Concurrent connections of one user; more are refused.
const CONNECTIONS: u32 = 256;
/// Concurrent sessions, of which one user gets a quarter; more wait.
const SESSIONS: u32 = 128;

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
    let places = Places::default();
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
        // Clients whose user cannot be determined share one identity.
        let user = Owner::User(stream.peer_cred().map_or(u32::MAX, |peer| peer.uid()));
        let Some(connection) = connect(user, CONNECTIONS) else {
            let reason = "a program on this host has too many open connections to submit.sock".to_string();
            Event::Refused { client: Origin::default().name(), reason }.log();
            turn_away(stream, NO_PLACE);
            continue;
        };
        let current = settings.borrow().clone();
        let Some(listener) = current.listeners.first() else { continue };
        // Requirements for devices do not apply to this host's own programs.
        let listener = Listener { auth: AuthMode::Ignore, dialect: Dialect::Tolerant, ..listener.clone() };
        let origin = Origin { helo: "localhost".into(), protocol: "SMTP", ..Origin::default() };
        let (places, desk, order) = (places.clone(), desk.clone(), order.clone());
        let session: task::Boxed<()> = Box::pin(async move {
            match places.enter(user, SESSIONS, PLACE_TIME).await {
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
    let _ = tokio::time::timeout(STOP_TIME, async { while sessions.join_next().await.is_some() {} }).await;
}
