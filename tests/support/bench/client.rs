// SPDX-License-Identifier: Apache-2.0
//! The load generator: devices that send mail as quickly as the relay takes it, or with pauses.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::json;

use super::{Options, now};

/// How long a relay may take for one reply before the message counts as failed.
const LIMIT: Duration = Duration::from_secs(20);
/// The same with a load that has a time limit: so long after its end at most, a session that hangs is given up.
const LINGER: Duration = Duration::from_secs(2);

/// What one session does.
struct Plan {
    port: u16,
    size: usize,
    kept: bool,
    /// Before each command and before the text.
    pause: Duration,
    /// After each message.
    gap: Duration,
    /// No message is begun after so many nanoseconds.
    limit: Option<u64>,
    /// Nor after so many messages of all sessions together.
    count: Option<u64>,
    first: u64,
    body: Vec<u8>,
}

impl Plan {
    fn patience(&self) -> Duration {
        self.limit.map_or(LIMIT, |limit| Duration::from_nanos(limit) + LINGER)
    }
}

/// Number of the message, when its text and dot were sent, when the reply to the dot was there.
type Sent = (u64, u64, u64);

/// Sends, and prints the figures as JSON.
pub fn run(options: &Options) -> Result<(), String> {
    let size = options.number("size")?.unwrap_or(1024);
    let plan = Arc::new(Plan {
        port: options.number("port")?.ok_or("--port is missing")?,
        size,
        kept: options.yes("kept"),
        pause: Duration::from_millis(options.number("pause")?.unwrap_or(0)),
        gap: Duration::from_millis(options.number("gap")?.unwrap_or(0)),
        limit: options.number::<f64>("seconds")?.map(|seconds| (seconds * 1e9) as u64),
        count: options.number("count")?,
        first: options.number("first")?.unwrap_or(1),
        body: body(size),
    });
    if plan.limit.is_none() && plan.count.is_none() {
        return Err("either --seconds or --count".to_owned());
    }
    let sessions: usize = options.number("sessions")?.unwrap_or(1);
    let taken = Arc::new(AtomicU64::new(0));
    let barrier = Arc::new(Barrier::new(sessions + 1));
    let threads: Vec<_> = (0..sessions)
        .map(|_| {
            let (plan, taken, barrier) = (plan.clone(), taken.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                session(&plan, &taken)
            })
        })
        .collect();
    barrier.wait();
    let start = now();
    let mut sent = Vec::new();
    let mut errors = Vec::new();
    for thread in threads {
        let (more, wrong) = thread.join().map_err(|_| "a session panicked")?;
        sent.extend(more);
        errors.extend(wrong);
    }
    let end = sent.iter().map(|one| one.2).max().unwrap_or(start);
    let mut replies: Vec<f64> = sent.iter().map(|one| (one.2 - one.1) as f64 / 1e6).collect();
    replies.sort_by(f64::total_cmp);
    let at = |share: f64| replies.get(((replies.len() as f64 - 1.0) * share).round() as usize).copied();
    let mut figures = json!({
        "accepted": sent.len(),
        "failed": errors.len(),
        "errors": errors.iter().take(3).collect::<Vec<_>>(),
        "start_ns": start,
        "seconds": (end - start) as f64 / 1e9,
        "reply_ms": {"median": at(0.5), "p99": at(0.99), "max": at(1.0)},
    });
    if options.yes("list") {
        figures["messages"] = json!(sent);
    }
    println!("{figures}");
    Ok(())
}

/// Lines of printable text, so many bytes together.
fn body(size: usize) -> Vec<u8> {
    let line = b"0123456789abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ .;:!\r\n";
    let mut all: Vec<u8> = line.iter().copied().cycle().take(size.max(line.len() * 2)).collect();
    let end = all.len();
    all[end - 2..].copy_from_slice(b"\r\n");
    all
}

/// One session until the end of the load.
fn session(plan: &Plan, taken: &AtomicU64) -> (Vec<Sent>, Vec<String>) {
    let start = now();
    let (mut sent, mut errors) = (Vec::new(), Vec::new());
    let mut connection = None;
    loop {
        if plan.limit.is_some_and(|limit| now() - start > limit) {
            break;
        }
        let number = taken.fetch_add(1, Ordering::Relaxed);
        if plan.count.is_some_and(|count| number >= count) {
            break;
        }
        let result = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(plan),
        }
        .and_then(|mut open| {
            let times = open.mail(plan, plan.first + number)?;
            Ok((open, times))
        });
        match result {
            Ok((mut open, (dot, reply))) => {
                sent.push((plan.first + number, dot, reply));
                if plan.kept {
                    connection = Some(open);
                } else {
                    let _ = open.say("QUIT\r\n");
                }
                if !plan.gap.is_zero() {
                    std::thread::sleep(plan.gap);
                }
            }
            Err(why) => {
                errors.push(why);
                if errors.len() > 200 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    if let Some(mut open) = connection {
        let _ = open.say("QUIT\r\n");
    }
    (sent, errors)
}

/// A connection that was greeted.
struct Connection {
    input: BufReader<TcpStream>,
    output: TcpStream,
}

impl Connection {
    fn open(plan: &Plan) -> Result<Connection, String> {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, plan.port)).map_err(|e| format!("connect: {e}"))?;
        tcp.set_nodelay(true).and_then(|()| tcp.set_read_timeout(Some(plan.patience()))).map_err(|e| e.to_string())?;
        let output = tcp.try_clone().map_err(|e| e.to_string())?;
        let mut connection = Connection { input: BufReader::new(tcp), output };
        connection.reply("the greeting")?;
        connection.step(plan, "EHLO plc.example\r\n")?;
        Ok(connection)
    }

    /// One message; when its dot left and when its reply came.
    fn mail(&mut self, plan: &Plan, number: u64) -> Result<(u64, u64), String> {
        self.step(plan, "MAIL FROM:<plc@example.com>\r\n")?;
        self.step(plan, "RCPT TO:<ops@example.com>\r\n")?;
        self.step(plan, "DATA\r\n")?;
        let head = format!(
            "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: bench {number}\r\nDate: Mon, 23 Nov 2026 01:02:03 +0000\r\n\
             Message-ID: <{number}.bench@example.com>\r\n\r\n"
        );
        let mut text = head.into_bytes();
        text.extend_from_slice(&plan.body[..plan.size.saturating_sub(text.len() + 2).min(plan.body.len())]);
        text.extend_from_slice(b"\r\n.\r\n");
        if !plan.pause.is_zero() {
            std::thread::sleep(plan.pause);
        }
        let dot = now();
        self.output.write_all(&text).map_err(|e| format!("the text: {e}"))?;
        self.reply("the dot")?;
        Ok((dot, now()))
    }

    fn step(&mut self, plan: &Plan, command: &str) -> Result<(), String> {
        if !plan.pause.is_zero() {
            std::thread::sleep(plan.pause);
        }
        self.say(command)
    }

    fn say(&mut self, command: &str) -> Result<(), String> {
        self.output.write_all(command.as_bytes()).map_err(|e| format!("{}: {e}", command.trim_end()))?;
        self.reply(command.trim_end())
    }

    fn reply(&mut self, to: &str) -> Result<(), String> {
        let mut line = String::new();
        loop {
            line.clear();
            match self.input.read_line(&mut line) {
                Ok(0) => return Err(format!("{to}: the connection was closed")),
                Ok(_) => {}
                Err(error) => return Err(format!("{to}: {error}")),
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        if line.starts_with(['2', '3']) { Ok(()) } else { Err(format!("{to}: {}", line.trim_end())) }
    }
}
