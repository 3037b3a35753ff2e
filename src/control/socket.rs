// SPDX-License-Identifier: Apache-2.0
//! The private socket: one line of JSON in, one line of JSON out, as often as the client likes.
//!
//! Only root and the gateway's own user are admitted. A request is `{"method": "queue", "params": {"offset": 0}}`, an
//! answer `{"result": …}` or `{"error": "…", "kind": "…"}`. In addition to the methods of [`Api`] there are those for
//! `smtprelay reload` and `check` only: `listening`, `reload` with what [`fd_passing`] packs, `reload_refused`, and
//! `fixed` with the values of the options that need a restart.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use zeroize::{Zeroize, Zeroizing};

use super::methods::CallError;
use super::{Api, REQUEST_LIMIT, SOCKET, fd_passing};
use crate::config::effect;
use crate::control::reload::ReloadOrder;
use crate::system::{logging, ordered, task};

/// Maximum number of concurrent connections.
const CLIENTS: usize = 16;
/// Maximum number of concurrent connections from clients without permission; further ones are closed without a reply.
const STRANGERS: usize = 2;
/// Timeout for a silent client.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the socket in `directory`, accessible to its owner only.
///
/// # Errors
/// If it cannot be created.
pub fn open(directory: &Path) -> Result<UnixListener, String> {
    let path = directory.join(SOCKET);
    let cannot = |error: io::Error| format!("cannot listen on {}: {error}", path.display());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    // No other user may connect, not even between the creation of the socket and the change of its mode.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let socket = UnixListener::bind(&path);
    nix::sys::stat::umask(mask);
    socket.map_err(cannot)
}

/// Serves requests until the order to stop.
pub async fn run(socket: UnixListener, api: Arc<Api>, mut stop: watch::Receiver<bool>) {
    // Clients that only get a refusal do not use up slots of permitted ones.
    let (places, others) = (Arc::new(Semaphore::new(CLIENTS)), Arc::new(Semaphore::new(STRANGERS)));
    loop {
        // First the slot, then the client: the kernel queues further ones.
        let next = async { (Arc::clone(&places).acquire_owned().await, socket.accept().await) };
        let (place, accepted) = tokio::select! {
            () = ordered(&mut stop) => return,
            next = next => next,
        };
        let (Ok(mut place), Ok((stream, _))) = (place, accepted) else {
            // No file descriptors left.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !may_ask(&stream) {
            let Ok(other) = Arc::clone(&others).try_acquire_owned() else { continue };
            place = other;
        }
        let api = Arc::clone(&api);
        task::spawn(async move {
            // A client that is gone needs no answer.
            let _ = converse(stream, &api).await;
            drop(place);
        });
    }
}

/// Whether the client is root or this process's own user. The mode of the socket says the same, but can be changed.
fn may_ask(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}

/// What has been received: the beginning of a line, and attached descriptors. It may contain a password.
#[derive(Default)]
struct Received {
    bytes: Zeroizing<Vec<u8>>,
    descriptors: Vec<OwnedFd>,
}

impl Received {
    /// The next line; `None` at the end, or if it is too long.
    async fn line(&mut self, stream: &UnixStream) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut buffer = Zeroizing::new([0; 2048]);
        // Everything fits from the start: growing would leave copies behind in memory.
        self.bytes.reserve(REQUEST_LIMIT + buffer.len());
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.bytes) {
                let line = Zeroizing::new(self.bytes.get(..=end).unwrap_or_default().to_vec());
                let rest = Zeroizing::new(self.bytes.get(end + 1..).unwrap_or_default().to_vec());
                self.bytes.zeroize();
                self.bytes.extend_from_slice(&rest);
                return Ok(Some(line));
            }
            if self.bytes.len() >= REQUEST_LIMIT {
                return Ok(None);
            }
            let socket = stream.as_raw_fd();
            let read = stream
                .async_io(Interest::READABLE, || fd_passing::receive(socket, &mut buffer[..], &mut self.descriptors));
            match read.await? {
                0 => return Ok(None),
                length => self.bytes.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            }
        }
    }
}

async fn converse(mut stream: UnixStream, api: &Api) -> io::Result<()> {
    let welcome = may_ask(&stream);
    let mut received = Received::default();
    loop {
        let line = tokio::time::timeout(PATIENCE, received.line(&stream)).await;
        let Ok(Ok(Some(line))) = line else { return Ok(()) };
        let result = match welcome {
            true => answer(&line, std::mem::take(&mut received.descriptors), api).await,
            false => Err(CallError::Failed("only root may connect to the gateway".into())),
        };
        let answer = match result {
            Ok(result) => json!({ "result": result }),
            Err(refusal) => json!({ "error": refusal.to_string(), "kind": refusal.kind() }),
        };
        let answer = format!("{answer}\n");
        tokio::time::timeout(PATIENCE, stream.write_all(answer.as_bytes())).await.unwrap_or(Ok(()))?;
    }
}

async fn answer(line: &[u8], descriptors: Vec<OwnedFd>, api: &Api) -> Result<Value, CallError> {
    let Ok(mut request) = serde_json::from_slice::<Value>(line) else {
        return Err(CallError::Wrong("the request is not JSON".into()));
    };
    let answered = asked(&request, descriptors, api).await;
    if let Some(Value::String(password)) = request.pointer_mut("/params/password") {
        password.zeroize();
    }
    answered
}

async fn asked(request: &Value, descriptors: Vec<OwnedFd>, api: &Api) -> Result<Value, CallError> {
    let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
    let params = request.get("params").unwrap_or(&Value::Null);
    match method {
        "listening" => Ok(json!({ "addresses": api.reload().addresses() })),
        "fixed" => {
            let values = effect::values(&api.settings.borrow().relay);
            Ok(values.into_iter().map(|(name, value)| (name.to_string(), value.into())).collect::<Map<_, _>>().into())
        }
        "reload_refused" => {
            let reason = params.get("reason").and_then(Value::as_str).unwrap_or("the settings are wrong").to_string();
            // The sender has asked for nothing to change.
            let _ = api.reload().order(|answer| ReloadOrder::Refuse(reason, answer)).await;
            Ok(json!({}))
        }
        "log" => {
            let opened = descriptors
                .into_iter()
                .next()
                .ok_or_else(|| CallError::Wrong("no file descriptor was attached".into()))?;
            logging::reconnect(opened).map_err(CallError::Failed)?;
            Ok(json!({}))
        }
        "reload" if !descriptors.is_empty() => {
            let params = params.clone();
            let offered = task::blocking(move || fd_passing::unpack(&params, descriptors)).await;
            let offered =
                offered.unwrap_or_else(|| Err("the gateway is shutting down".into())).map_err(CallError::Failed)?;
            let taken = api.reload().order(|answer| ReloadOrder::Take(Box::new(offered), answer)).await;
            Ok(json!({ "warnings": taken.map_err(CallError::Failed)? }))
        }
        _ => api.call(method, params).await,
    }
}
