// SPDX-License-Identifier: Apache-2.0
//! How root hands over new settings on the private socket: open file descriptors are sent along with the request
//! (SCM_RIGHTS, unix(7)). So nothing has to be copied or encoded, and the gateway reads exactly the files that were
//! there when root opened them.
//!
//! The request is `{"method": "reload", "params": {"file": …, "files": […], "sockets": […], "said": […]}}`. With it
//! come the settings file, the files listed in `files`, and the listening sockets for the addresses in `sockets`, in
//! this order.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg, sockopt::AcceptConn,
};
use serde_json::{Value, json};

use crate::config::FILE_LIMIT;
use crate::config::files;
use crate::control::reload::Offer;

/// Maximum number of file descriptors per request; the kernel's own limit is 253 (SCM_MAX_FD).
pub const DESCRIPTORS: usize = 240;
/// Maximum number of sockets per request.
pub const SOCKETS: usize = DESCRIPTORS - files::COUNT_LIMIT - 1;

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
pub fn unpack(params: &Value, descriptors: Vec<OwnedFd>) -> Result<Offer, String> {
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
pub fn send(stream: &mut UnixStream, line: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
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
pub fn receive(socket: RawFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
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
    use super::*;

    fn through(parcel: Parcel) -> Result<Offer, String> {
        let (mut root, gateway) = UnixStream::pair().unwrap();
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
