// SPDX-License-Identifier: Apache-2.0
//! A mail provider that counts: TLS and login as the stand-in of the tests, but it neither judges nor keeps what comes.
//!
//! It obeys lines on stdin and ends with it: `reset` forgets the arrivals, `wait COUNT SECONDS` prints them as JSON when
//! there are so many or the time is over, `chunking yes|no` is for connections that come after.

use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio_rustls::rustls::{self, ServerConfig, ServerConnection, StreamOwned};

use super::certs::{Cert, Certs};
use super::{Options, now, publish};

#[derive(Default)]
struct State {
    /// Number of the message (from its subject) and when it was accepted.
    arrivals: Vec<(u64, u64)>,
    connections: u64,
    logins: u64,
    chunking: bool,
}

struct Shared {
    state: Mutex<State>,
    more: Condvar,
    user: String,
    password: String,
    tls: Option<Arc<ServerConfig>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until stdin ends.
pub fn run(options: &Options) -> Result<(), String> {
    let certs = Certs::new();
    std::fs::copy(certs.ca_file(), options.text("ca-out")?).map_err(|e| format!("write the CA: {e}"))?;
    let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let tls = options.text("tls").is_ok_and(|tls| tls == "none");
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        more: Condvar::new(),
        user: options.text("user")?.to_owned(),
        password: options.text("password")?.to_owned(),
        tls: (!tls).then(|| certs.server_config(Cert::Good, versions)),
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("listen: {e}"))?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let accepting = shared.clone();
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let shared = accepting.clone();
            std::thread::spawn(move || connection(&shared, tcp));
        }
    });
    publish(Path::new(options.text("port-file")?), &port.to_string())?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        obey(&shared, &line.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}

fn obey(shared: &Shared, words: &[&str]) -> Result<(), String> {
    match words {
        ["reset"] => {
            let mut state = shared.lock();
            *state = State { chunking: state.chunking, ..State::default() };
        }
        ["chunking", value] => shared.lock().chunking = *value == "yes",
        ["wait", count, seconds] => {
            let count: usize = count.parse().map_err(|_| "wait: not a number")?;
            let limit: f64 = seconds.parse().map_err(|_| "wait: not a time")?;
            let limit = Duration::from_secs_f64(limit);
            let (state, _) = shared
                .more
                .wait_timeout_while(shared.lock(), limit, |state| state.arrivals.len() < count)
                .unwrap_or_else(PoisonError::into_inner);
            println!(
                "{}",
                json!({"arrivals": state.arrivals, "connections": state.connections, "logins": state.logins})
            );
        }
        _ => return Err(format!("unknown command {words:?}")),
    }
    Ok(())
}

fn connection(shared: &Shared, tcp: TcpStream) {
    let chunking = {
        let mut state = shared.lock();
        state.connections += 1;
        state.chunking
    };
    let _ = tcp.set_nodelay(true);
    let stream: Box<dyn Stream> = match &shared.tls {
        Some(config) => match ServerConnection::new(config.clone()) {
            Ok(server) => Box::new(StreamOwned::new(server, tcp)),
            Err(_) => return,
        },
        None => Box::new(tcp),
    };
    let mut wire = Wire { stream, input: Vec::new(), at: 0, output: Vec::new() };
    // None: the client has closed the connection.
    let _ = converse(shared, &mut wire, chunking);
    let _ = wire.flush();
    wire.stream.finish();
}

trait Stream: Read + Write {
    /// Says that nothing more will come, where the protocol has a word for it.
    fn finish(&mut self) {}
}

impl Stream for TcpStream {}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn finish(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

/// Replies wait until there is nothing left to read, so that a group of commands gets one packet of replies.
struct Wire {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
}

impl Wire {
    fn say(&mut self, reply: &str) {
        self.output.extend_from_slice(reply.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    fn flush(&mut self) -> Option<()> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).ok()?;
            self.stream.flush().ok()?;
            self.output.clear();
        }
        Some(())
    }

    /// Reads more behind what is there.
    fn fill(&mut self) -> Option<()> {
        self.flush()?;
        self.input.drain(..self.at);
        self.at = 0;
        let old = self.input.len();
        self.input.resize(old + 65536, 0);
        let count = self.stream.read(&mut self.input[old..]).ok()?;
        self.input.truncate(old + count);
        (count > 0).then_some(())
    }

    /// The next line, without its end.
    fn line(&mut self) -> Option<String> {
        loop {
            let rest = &self.input[self.at..];
            if let Some(end) = memchr::memchr(b'\n', rest) {
                let line = String::from_utf8_lossy(&rest[..end]).trim_end().to_owned();
                self.at += end + 1;
                return Some(line);
            }
            self.fill()?;
        }
    }

    /// Reads to the end of the text that began behind DATA; the number in its subject.
    fn text(&mut self) -> Option<u64> {
        let mut number = None;
        loop {
            let rest = &self.input[self.at..];
            number = number.or_else(|| subject(rest));
            if let Some(end) = memchr::memmem::find(rest, b"\r\n.\r\n") {
                self.at += end + 5;
                return Some(number.unwrap_or(0));
            }
            // The last bytes may be the beginning of the end, and a short header is still needed.
            if number.is_some() {
                self.at += rest.len().saturating_sub(4);
            }
            self.fill()?;
        }
    }

    /// Reads a chunk of BDAT; the number if the subject is in it.
    fn chunk(&mut self, count: usize) -> Option<Option<u64>> {
        let (mut left, mut number) = (count, None);
        loop {
            let rest = &self.input[self.at..];
            let here = rest.len().min(left);
            number = number.or_else(|| subject(&rest[..here]));
            if here == left || number.is_some() {
                self.at += here;
                left -= here;
            }
            if left == 0 {
                return Some(number);
            }
            self.fill()?;
        }
    }
}

/// The number in `Subject: bench N`.
fn subject(text: &[u8]) -> Option<u64> {
    const FIELD: &[u8] = b"Subject: bench ";
    let head = &text[..text.len().min(8192)];
    let rest = &head[memchr::memmem::find(head, FIELD)? + FIELD.len()..];
    let end = memchr::memchr(b'\r', rest)?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

fn converse(shared: &Shared, wire: &mut Wire, chunking: bool) -> Option<()> {
    wire.say("220 provider.example ESMTP");
    // The number of a message that comes in chunks.
    let mut number = None;
    // Without TLS nobody is asked for a login: that shows what the load generator can do.
    let mut welcome = shared.tls.is_none();
    loop {
        let line = wire.line()?;
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                wire.say("250-provider.example\r\n250-PIPELINING\r\n250-SIZE 209715200\r\n250-AUTH PLAIN LOGIN");
                if chunking {
                    wire.say("250-CHUNKING");
                }
                wire.say("250-8BITMIME\r\n250 ENHANCEDSTATUSCODES");
            }
            "AUTH" => {
                welcome = login(shared, wire, argument)?;
                shared.lock().logins += u64::from(welcome);
                wire.say(if welcome { "235 2.7.0 Welcome" } else { "535 5.7.8 Wrong user or password" });
            }
            "MAIL" if !welcome => wire.say("530 5.7.0 Authentication required"),
            "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => wire.say("250 2.0.0 Ok"),
            "DATA" => {
                wire.say("354 Go on");
                let number = wire.text()?;
                arrived(shared, wire, number);
            }
            "BDAT" => {
                let (count, last) = argument.split_once(' ').map_or((argument, false), |(count, _)| (count, true));
                number = wire.chunk(count.parse().ok()?)?.or(number);
                if last {
                    arrived(shared, wire, number.take().unwrap_or(0));
                } else {
                    wire.say("250 2.0.0 Ok");
                }
            }
            "QUIT" => {
                wire.say("221 2.0.0 Bye");
                return wire.flush();
            }
            _ => wire.say("500 5.5.1 Unknown command"),
        }
    }
}

fn arrived(shared: &Shared, wire: &mut Wire, number: u64) {
    shared.lock().arrivals.push((number, now()));
    shared.more.notify_all();
    wire.say("250 2.0.0 Ok: accepted");
}

/// PLAIN and LOGIN, with or without an initial response.
fn login(shared: &Shared, wire: &mut Wire, argument: &str) -> Option<bool> {
    let (mechanism, initial) = argument.split_once(' ').map_or((argument, None), |(name, rest)| (name, Some(rest)));
    let ask = |wire: &mut Wire, prompt: &str| {
        wire.say(&format!("334 {prompt}"));
        wire.line()
    };
    let decode = |text: &str| STANDARD.decode(text).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).ok();
    let (user, password) = match mechanism.to_ascii_uppercase().as_str() {
        "PLAIN" => {
            let response = match initial {
                Some(initial) => initial.to_owned(),
                None => ask(wire, "")?,
            };
            let text = decode(&response).unwrap_or_default();
            let mut parts = text.split('\0').skip(1).map(str::to_owned);
            (parts.next()?, parts.next()?)
        }
        "LOGIN" => {
            let user = match initial {
                Some(initial) => initial.to_owned(),
                None => ask(wire, "VXNlcm5hbWU6")?,
            };
            let password = ask(wire, "UGFzc3dvcmQ6")?;
            (decode(&user)?, decode(&password)?)
        }
        _ => return Some(false),
    };
    Some(user == shared.user && password == shared.password)
}
