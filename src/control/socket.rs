// SPDX-License-Identifier: Apache-2.0
//! The private socket: one line of JSON in, one line of JSON out, as often as the client likes.
//!
//! Only root and the gateway's own user are admitted. A request is `{"method": "queue", "params": {"offset": 0}}`, an
//! answer `{"result": …}` or `{"error": "…", "kind": "…"}`. In addition to the methods of [`Api`] there are those for
//! `smtprelay reload` and `check` only: `listening`, `reload` with what [`pack`] packs, `reload_refused`, and `fixed`
//! with the values of the options that need a restart. [`ControlClient`] is the command line's end.
//!
//! Root hands over new settings as open file descriptors that are sent along with the request (SCM_RIGHTS, unix(7)). So
//! nothing has to be copied or encoded, and the gateway reads exactly the files that were there when root opened them.
//! The request is `{"method": "reload", "params": {"file": …, "files": […], "sockets": […], "said": […]}}`. With it
//! come the settings file, the files listed in `files`, and the listening sockets for the addresses in `sockets`, in
//! this order.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::sockopt::AcceptConn;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg};
use serde_json::{Map, Value};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use zeroize::{Zeroize, Zeroizing};

use super::{Api, CallError, REQUEST_LIMIT, SOCKET};
use crate::config::{FILE_LIMIT, effect, files};
use crate::control::reload::{Offer, ReloadOrder};
use crate::queue::deserted;
use crate::system::json::{json, put};
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
            let read = stream.async_io(Interest::READABLE, || receive(socket, &mut buffer[..], &mut self.descriptors));
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
        // After half an answer the next one would not be understood, and the place is needed for others.
        tokio::time::timeout(PATIENCE, stream.write_all(answer.as_bytes())).await??;
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
            let mut fields = Map::new();
            values.into_iter().for_each(|(name, value)| put(&mut fields, name, &value));
            Ok(fields.into())
        }
        "reload_refused" => {
            let reason = params.get("reason").and_then(Value::as_str).unwrap_or("the settings are wrong").to_string();
            // The sender has asked for nothing to change.
            let _ = api.reload().order(|answer| ReloadOrder::Refuse(reason, answer)).await;
            Ok(json!({}))
        }
        // Not on the bus, where more than root may ask.
        "body" => api.body(params).await,
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
            let offered = task::blocking(move || unpack(&params, descriptors)).await;
            let offered =
                offered.unwrap_or_else(|| Err("the gateway is shutting down".into())).map_err(CallError::Failed)?;
            let taken = api.reload().order(|answer| ReloadOrder::Take(Box::new(offered), answer)).await;
            Ok(json!({ "warnings": taken.map_err(CallError::Failed)? }))
        }
        _ => api.call(method, params).await,
    }
}

/// Timeout for an answer: deleting ten thousand messages on slow flash takes a while.
const ANSWER_TIME: Duration = Duration::from_secs(300);

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailure {
    /// The kind: `wrong`, `not_found`, `busy`, `failed` from the gateway, or `broken` if the connection failed.
    pub kind: String,
    /// The error message.
    pub text: String,
}

impl CallFailure {
    fn broken(text: String) -> Self {
        Self { kind: "broken".into(), text }
    }
}

/// A connection to the running gateway. Blocks; only for short-lived commands.
pub struct ControlClient {
    stream: BufReader<StdStream>,
}

impl ControlClient {
    /// Connects to the gateway that uses the queue in `spool`; `None` if none is running.
    ///
    /// # Errors
    /// If one is running and does not accept the connection.
    pub fn connect(spool: &Path) -> Result<Option<Self>, String> {
        let path = spool.join(SOCKET);
        match StdStream::connect(&path) {
            Ok(stream) => {
                let patient = stream.set_read_timeout(Some(ANSWER_TIME));
                patient.and_then(|()| stream.set_write_timeout(Some(ANSWER_TIME))).map_err(|e| e.to_string())?;
                Ok(Some(Self { stream: BufReader::new(stream) }))
            }
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && let Some(text) = deserted(spool) =>
            {
                Err(text)
            }
            // None has run here since the last boot, or the last one has ended.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(format!("only root may connect to the gateway ({})", path.display()))
            }
            Err(error) => Err(format!("cannot connect to the gateway on {}: {error}", path.display())),
        }
    }

    /// Calls `method`.
    ///
    /// # Errors
    /// The refusal of the gateway, or how the connection failed.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, CallFailure> {
        self.call_with(method, params, &[])
    }

    /// As [`Self::call`], with open files and sockets attached; see [`pack`].
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_with(&mut self, method: &str, params: Value, along: &[OwnedFd]) -> Result<Value, CallFailure> {
        let broken = |error: std::io::Error| CallFailure::broken(format!("the gateway did not answer: {error}"));
        let request = format!("{}\n", json!({ "method": method, "params": params }));
        match along {
            [] => self.stream.get_mut().write_all(request.as_bytes()).map_err(broken)?,
            along => send(self.stream.get_mut(), request.as_bytes(), along).map_err(broken)?,
        }
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).map_err(broken)?;
        let mut answer: Value = serde_json::from_slice(&line)
            .map_err(|_| CallFailure::broken("the gateway closed the connection before it answered".into()))?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_string);
        if let Some(error) = text("error") {
            return Err(CallFailure { kind: text("kind").unwrap_or_default(), text: error });
        }
        Ok(answer.get_mut("result").map(Value::take).unwrap_or_default())
    }
}

/// Maximum number of file descriptors per request; the kernel's own limit is 253 (SCM_MAX_FD).
const DESCRIPTORS: usize = 240;
/// Maximum number of sockets per request.
const SOCKETS: usize = DESCRIPTORS - files::COUNT_LIMIT - 1;

/// What is sent: the parameters of the request and the descriptors, in this order.
pub struct Parcel {
    /// Parameters of the method `reload`.
    pub params: Value,
    /// The attached descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// Prepares the request. Files that cannot be opened are left out: they are reported when they are needed.
///
/// # Errors
/// If the settings file cannot be opened.
pub fn pack(
    file: &Path,
    named: Vec<PathBuf>,
    sockets: Vec<(SocketAddr, TcpListener)>,
    said: Vec<String>,
) -> io::Result<Parcel> {
    let mut descriptors = vec![OwnedFd::from(File::open(file)?)];
    let (mut files, mut addresses) = (Vec::new(), Vec::new());
    for path in named.into_iter().take(files::COUNT_LIMIT) {
        if let (Ok(opened), Some(text)) = (File::open(&path), path.to_str()) {
            descriptors.push(opened.into());
            files.push(text.to_string());
        }
    }
    for (address, socket) in sockets.into_iter().take(SOCKETS) {
        descriptors.push(socket.into());
        addresses.push(address.to_string());
    }
    let params = json!({ "file": file.to_str(), "files": files, "sockets": addresses, "said": said });
    Ok(Parcel { params, descriptors })
}

/// Unpacks a received request. Reads files, so it must not be called on the runtime thread.
///
/// # Errors
/// If the descriptors do not match the request.
fn unpack(params: &Value, descriptors: Vec<OwnedFd>) -> Result<Offer, String> {
    let odd = || {
        "the reload request was made by another version: restart the gateway (service smtprelay restart)".to_string()
    };
    let list = |name: &str| -> Option<Vec<&str>> {
        let list = params.get(name)?.as_array()?;
        list.iter().map(Value::as_str).collect()
    };
    let file = params.get("file").and_then(Value::as_str);
    let (Some(file), Some(names), Some(addresses), Some(said)) = (file, list("files"), list("sockets"), list("said"))
    else {
        return Err(odd());
    };
    if descriptors.len() != 1 + names.len() + addresses.len() {
        return Err(odd());
    }
    let mut descriptors = descriptors.into_iter();
    let settings = descriptors.next().ok_or_else(odd)?;
    let unreadable = |path: &str, error: io::Error| format!("{path}: cannot be read: {error}");
    let read = |path: &str, from: OwnedFd, limit| {
        let opened = File::from(from);
        // Opening a pipe or a terminal could block forever.
        match opened.metadata() {
            Ok(file) if file.is_file() => files::contents(opened, limit).map_err(|error| unreadable(path, error)),
            Ok(_) => Err(format!("{path} is not a file")),
            Err(error) => Err(unreadable(path, error)),
        }
    };
    let text = read(file, settings, FILE_LIMIT + 1)?;
    let (mut files, mut sockets) = (files::Files::new(), Vec::new());
    for (name, from) in names.into_iter().zip(descriptors.by_ref()) {
        // A socket that cannot be used is reported when it is needed.
        if let Ok(bytes) = read(name, from, files::SIZE_LIMIT) {
            files.insert(PathBuf::from(name), bytes);
        }
    }
    for (address, socket) in addresses.into_iter().zip(descriptors) {
        let address: SocketAddr = address.parse().map_err(|_| odd())?;
        if !getsockopt(&socket, AcceptConn).unwrap_or(false) {
            return Err(odd());
        }
        sockets.push((address, TcpListener::from(socket)));
    }
    let said = said.into_iter().map(str::to_string).collect();
    Ok(Offer { file: PathBuf::from(file), text, files, sockets, said })
}

/// Sends a line with its attached descriptors. Blocks.
///
/// # Errors
/// From the system.
fn send(stream: &mut StdStream, line: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let along = [ControlMessage::ScmRights(&raw)];
    let sent = loop {
        match sendmsg::<UnixAddr>(stream.as_raw_fd(), &[IoSlice::new(line)], &along, MsgFlags::MSG_NOSIGNAL, None) {
            Err(nix::Error::EINTR) => {}
            sent => break sent?,
        }
    };
    stream.write_all(line.get(sent..).unwrap_or_default())
}

/// Reads what is available, with its attached descriptors. Does not block on a non-blocking socket.
///
/// # Errors
/// From the system; [`ErrorKind::WouldBlock`] if nothing is available.
fn receive(socket: RawFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for along in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = along {
            // SAFETY: the kernel has just created these for this process, and nothing else knows of them.
            descriptors.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    if descriptors.len() > DESCRIPTORS {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn through(parcel: Parcel) -> Result<Offer, String> {
        let (mut root, gateway) = StdStream::pair().unwrap();
        send(&mut root, b"line\n", &parcel.descriptors).unwrap();
        let (mut buffer, mut came) = ([0; 64], Vec::new());
        assert_eq!(receive(gateway.as_raw_fd(), &mut buffer, &mut came).unwrap(), 5);
        assert_eq!(came.len(), parcel.descriptors.len());
        unpack(&parcel.params, came)
    }

    #[test]
    fn what_is_packed_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let (file, key) = (dir.path().join("settings"), dir.path().join("key"));
        std::fs::write(&file, "config relay").unwrap();
        std::fs::write(&key, "secret").unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let scoped: SocketAddr = "[fe80::1%3]:25".parse().unwrap();
        let again = socket.try_clone().unwrap();
        let named = vec![key.clone(), dir.path().join("missing")];
        let offer =
            through(pack(&file, named, vec![(address, socket), (scoped, again)], vec!["advice".into()]).unwrap())
                .unwrap();
        assert_eq!((offer.file, offer.text.as_slice()), (file, &b"config relay"[..]));
        assert_eq!(offer.said, ["advice"]);
        assert_eq!(
            offer.files.iter().map(|(path, text)| (path, text.as_slice())).collect::<Vec<_>>(),
            [(&key, &b"secret"[..])]
        );
        let addresses: Vec<_> = offer.sockets.iter().map(|(address, _)| *address).collect();
        assert_eq!(addresses, [address, scoped]);
        assert_eq!(offer.sockets[0].1.local_addr().unwrap(), address);
    }

    #[test]
    fn what_is_not_as_it_says_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings");
        std::fs::write(&file, "config relay").unwrap();
        let fresh = || pack(&file, Vec::new(), Vec::new(), Vec::new()).unwrap();
        for params in [
            json!({}),
            json!({ "file": 1, "files": [], "sockets": [], "said": [] }),
            json!({ "file": "x", "files": ["y"], "sockets": [], "said": [] }),
            json!({ "file": "x", "files": [1], "sockets": [], "said": [] }),
            json!({ "file": "x", "files": [], "sockets": ["127.0.0.1:25"], "said": [] }),
        ] {
            assert!(through(Parcel { params: params.clone(), ..fresh() }).is_err(), "{params}");
        }
        // A file instead of a socket, an invalid address, a pipe instead of the settings.
        let mut parcel = fresh();
        parcel.descriptors.push(File::open(&file).unwrap().into());
        for address in ["127.0.0.1:25", "x"] {
            let params = json!({ "file": "x", "files": [], "sockets": [address], "said": [] });
            let descriptors = parcel.descriptors.iter().map(|fd| fd.try_clone().unwrap()).collect();
            assert!(through(Parcel { params, descriptors }).is_err(), "{address}");
        }
        let (pipe, _open) = io::pipe().unwrap();
        assert!(through(Parcel { descriptors: vec![pipe.into()], ..fresh() }).is_err());
    }
}
