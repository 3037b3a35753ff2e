//! The private socket: a line of JSON in, a line of JSON out, as often as the other side likes.
//!
//! A request is `{"method": "queue", "params": {"offset": 0}}`, an answer `{"result": …}` or `{"error": "…", "kind": "…"}`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use zeroize::{Zeroize, Zeroizing};

use super::{Api, REQUEST_LIMIT, SOCKET};
use crate::system::{ordered, task};

/// Conversations at once.
const CLIENTS: usize = 16;
/// How long a silent client is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the socket in `directory`, for its owner only.
///
/// # Errors
/// When it can't be made.
pub fn open(directory: &Path) -> Result<UnixListener, String> {
    let path = directory.join(SOCKET);
    let cannot = |error: io::Error| format!("can't listen on {}: {error}", path.display());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    // Nobody else may connect, not even between the making of the socket and a change of its mode.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let socket = UnixListener::bind(&path);
    nix::sys::stat::umask(mask);
    socket.map_err(cannot)
}

/// Answers until the order to stop.
pub async fn run(socket: UnixListener, api: Arc<Api>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        // First the place, then the client: the kernel lets those beyond wait.
        let next = async { (Arc::clone(&places).acquire_owned().await, socket.accept().await) };
        let (place, accepted) = tokio::select! {
            () = ordered(&mut stop) => return,
            next = next => next,
        };
        let (Ok(place), Ok((stream, _))) = (place, accepted) else {
            // No file descriptors.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let api = Arc::clone(&api);
        task::spawn(async move {
            // A client that is gone needs no answer.
            let _ = converse(stream, &api).await;
            drop(place);
        });
    }
}

async fn converse(stream: UnixStream, api: &Api) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        // There may be a password in it.
        let mut line = Zeroizing::new(Vec::with_capacity(REQUEST_LIMIT));
        let mut limited = (&mut stream).take(REQUEST_LIMIT as u64);
        let read = tokio::time::timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await;
        if !matches!(read, Ok(Ok(1..))) || !line.ends_with(b"\n") {
            return Ok(());
        }
        let mut answer = answer(&line, api).await.to_string().into_bytes();
        answer.push(b'\n');
        tokio::time::timeout(PATIENCE, stream.get_mut().write_all(&answer)).await.unwrap_or(Ok(()))?;
    }
}

async fn answer(line: &[u8], api: &Api) -> Value {
    let Ok(mut request) = serde_json::from_slice::<Value>(line) else {
        return json!({ "error": "the request is not JSON", "kind": "wrong" });
    };
    let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
    let called = api.call(method, request.get("params").unwrap_or(&Value::Null)).await;
    if let Some(Value::String(password)) = request.pointer_mut("/params/password") {
        password.zeroize();
    }
    match called {
        Ok(result) => json!({ "result": result }),
        Err(refusal) => json!({ "error": refusal.to_string(), "kind": refusal.kind() }),
    }
}
