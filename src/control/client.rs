// SPDX-License-Identifier: Apache-2.0
//! The command line's end of the private socket. Blocks; only for short-lived commands.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{SOCKET, fd_passing};

/// Timeout for an answer: deleting ten thousand messages on slow flash takes a while.
const PATIENCE: Duration = Duration::from_secs(300);

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

/// A connection to the running gateway.
pub struct ControlClient {
    stream: BufReader<UnixStream>,
}

impl ControlClient {
    /// Connects to the gateway that uses the queue in `spool`; `None` if none is running.
    ///
    /// # Errors
    /// If one is running and does not accept the connection.
    pub fn connect(spool: &Path) -> Result<Option<Self>, String> {
        let path = spool.join(SOCKET);
        match UnixStream::connect(&path) {
            Ok(stream) => {
                let patient = stream.set_read_timeout(Some(PATIENCE));
                patient.and_then(|()| stream.set_write_timeout(Some(PATIENCE))).map_err(|e| e.to_string())?;
                Ok(Some(Self { stream: BufReader::new(stream) }))
            }
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && let Some(process) = deserted(spool) =>
            {
                Err(format!(
                    "the gateway is running (process {process}), but its directory {} was removed or replaced: mail cannot be \
                 accepted there; service smtprelay restart recreates it",
                    spool.display()
                ))
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

    /// As [`Self::call`], with open files and sockets attached; see [`super::fd_passing`].
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_with(&mut self, method: &str, params: Value, along: &[OwnedFd]) -> Result<Value, CallFailure> {
        let broken = |error: std::io::Error| CallFailure::broken(format!("the gateway did not answer: {error}"));
        let request = format!("{}\n", json!({ "method": method, "params": params }));
        match along {
            [] => self.stream.get_mut().write_all(request.as_bytes()).map_err(broken)?,
            along => fd_passing::send(self.stream.get_mut(), request.as_bytes(), along).map_err(broken)?,
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

/// A process that holds the lock of the queue in `spool` although the file is gone: a gateway whose directory was
/// removed. Only root can see the open files of other processes.
fn deserted(spool: &Path) -> Option<String> {
    let gone = format!("{} (deleted)", spool.join("lock").display());
    let holds = |process: &fs::DirEntry| {
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        open.into_iter().any(|open| fs::read_link(open.path()).is_ok_and(|path| path.as_os_str() == gone.as_str()))
    };
    let found = fs::read_dir("/proc").ok()?.flatten().find(holds)?;
    found.file_name().into_string().ok()
}
