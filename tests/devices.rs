// SPDX-License-Identifier: Apache-2.0
//! Every conversation in `tests/devices/`, in every way in which its bytes may come: each time exactly one correct mail
//! arrives at the provider.

mod support;

#[path = "devices/script.rs"]
mod script;

use std::path::{Path, PathBuf};
use std::time::Duration;

use script::{Device, Step};
use support::client::{Chunking, Client};
use support::provider::{Message, Provider, TlsMode};
use support::relay::{ACCOUNT_FROM, Relay, Section};

const SOON: Duration = Duration::from_secs(60);

/// How the bytes of a conversation come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// The device waits for replies, and stops when one is not what it wants.
    InTurn,
    /// All at once, and no reply is looked at.
    AtOnce,
    /// In turn, a byte a packet.
    ByteByByte,
    /// In turn, each line end is LF alone.
    BareLf,
    /// As a program on the router, through `sendmail`.
    Local,
}

impl Manner {
    const REMOTE: [Manner; 4] = [Manner::InTurn, Manner::AtOnce, Manner::ByteByByte, Manner::BareLf];

    fn name(self) -> &'static str {
        match self {
            Manner::InTurn => "in turn",
            Manner::AtOnce => "all at once",
            Manner::ByteByByte => "byte by byte",
            Manner::BareLf => "bare LF",
            Manner::Local => "sendmail",
        }
    }
}

struct Bed {
    provider: Provider,
    relay: Relay,
}

impl Bed {
    async fn start() -> Bed {
        let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
        let account = Section::account("provider", &provider).option("from_policy", "keep");
        let relay = Relay::builder().durability("memory").relay_option("admin", "admin@example.com").section(account);
        Bed { provider, relay: relay.start().await }
    }

    /// Plays a conversation. The error says at which step the device gave up.
    async fn play(&self, steps: &[Step], manner: Manner, mark: usize) -> Result<(), String> {
        let mut device = Client::connect(self.relay.addr()).await;
        if manner == Manner::AtOnce {
            let sent = |step: &Step| if let Step::Send(bytes) = step { bytes.clone() } else { Vec::new() };
            let all: Vec<u8> = steps.iter().flat_map(sent).collect();
            device.write(&all).await.map_err(|error| format!("can't send: {error}"))?;
        }
        for step in steps {
            match step {
                Step::Expect(_) | Step::Send(_) | Step::Pause if manner == Manner::AtOnce => {}
                Step::Expect(code) => {
                    let reply = device.try_reply().await.map_err(|error| format!("no reply: {error}"))?;
                    match reply {
                        Some(reply) if reply.code == *code => {}
                        other => return Err(format!("wanted {code}, got {other:?}")),
                    }
                }
                Step::Send(bytes) => {
                    let bare: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\r').collect();
                    let (bytes, chunking) = match manner {
                        Manner::BareLf => (&bare, Chunking::Whole),
                        Manner::ByteByByte => (bytes, Chunking::Bytes(1)),
                        _ => (bytes, Chunking::Whole),
                    };
                    device.write_in(bytes, chunking).await.map_err(|error| format!("can't send: {error}"))?;
                }
                // As long as other things take that the device does in between.
                Step::Pause => tokio::time::sleep(Duration::from_millis(50)).await,
                Step::Close => return Ok(()),
                Step::Reset => {
                    self.relay.wait_log_from(mark, |line| line.contains("event=accepted"), SOON).await;
                    device.reset();
                    return Ok(());
                }
            }
        }
        // Who says no QUIT and does not close: the connection is let go when everything has been said.
        device.finish().await;
        device.read_to_end().await;
        Ok(())
    }

    async fn hand_in(&self, device: &Device, args: &[String]) -> Result<(), String> {
        let input: Vec<u8> = device
            .steps
            .iter()
            .flat_map(|(step, _)| if let Step::Send(bytes) = step { bytes.clone() } else { Vec::new() })
            .filter(|byte| *byte != b'\r')
            .collect();
        // Under its name, which selects the options.
        let link = self.relay.dir().join("sendmail");
        let given = self.relay.program();
        let words: Vec<_> = std::iter::once(given.get_program()).chain(given.get_args()).collect();
        let (program, runner) = words.split_last().expect("a program");
        let _ = std::os::unix::fs::symlink(program, &link);
        let words: Vec<_> = runner.iter().copied().chain([link.as_os_str()]).collect();
        let mut command = tokio::process::Command::new(words[0]);
        command.args(&words[1..]).arg("--config").arg(self.relay.config_path()).args(args);
        command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut stdin = child.stdin.take().expect("a pipe");
        tokio::io::AsyncWriteExt::write_all(&mut stdin, &input).await.map_err(|error| error.to_string())?;
        drop(stdin);
        let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Plays one variant and judges what arrived.
    async fn verdict(&self, device: &Device, manner: Manner, login: bool) -> Result<(), String> {
        let mark = self.relay.mark();
        let before = self.provider.messages().len();
        match &device.sendmail {
            Some(args) => self.hand_in(device, args).await?,
            None => self.play(&device.conversation(login), manner, mark).await?,
        }
        self.relay.wait_log_from(mark, |line| line.contains("event=removed"), SOON).await;
        let messages = self.provider.messages();
        match &messages[before..] {
            [message] => correct(device, message),
            others => Err(format!("{} mails arrived", others.len())),
        }
    }
}

/// Whether what arrived is the device's mail, and one that everybody understands.
fn correct(device: &Device, message: &Message) -> Result<(), String> {
    let equal = |what: &str, found: &str, wanted: &str| match found == wanted {
        true => Ok(()),
        false => Err(format!("{what} is {found:?}, not {wanted:?}")),
    };
    equal("the sender", &message.sender, &device.sender)?;
    equal("the recipients", &message.recipients.join(" "), &device.recipients.join(" "))?;
    if let Some(subject) = &device.subject {
        equal("the subject", &message.header("Subject").unwrap_or_default(), subject)?;
    }
    for name in ["From", "To", "Date", "Message-ID"] {
        if message.headers(name).len() != 1 {
            return Err(format!("{name}: {:?}\n{}", message.headers(name), message.text()));
        }
    }
    // Some programs write one of their own; ours stands in front.
    if !message.headers("Received").first().is_some_and(|line| line.contains("(smtprelay) with ")) {
        return Err(format!("Received: {:?}", message.headers("Received")));
    }
    let header = |name: &str| message.header(name).unwrap_or_default();
    for name in ["From", "To"] {
        let value = header(name);
        if !value.contains('@') && !value.ends_with(':') && !value.ends_with(":;") {
            return Err(format!("{name} is {value:?}"));
        }
    }
    let id = header("Message-ID");
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).and_then(|id| id.split_once('@'));
    if !inner.is_some_and(|(left, right)| !left.is_empty() && !right.is_empty() && !id.contains(' ')) {
        return Err(format!("Message-ID is {id:?}"));
    }
    if !is_date(&header("Date")) {
        return Err(format!("Date is {:?}", header("Date")));
    }
    if !message.head().is_ascii() {
        return Err(format!("8-bit bytes in the header\n{}", message.text()));
    }
    let lines: Vec<&[u8]> = message.data.split_inclusive(|byte| *byte == b'\n').collect();
    let is_line =
        |line: &&[u8]| line.len() <= 1000 && line.ends_with(b"\r\n") && !line[..line.len() - 2].contains(&b'\r');
    if !lines.iter().all(is_line) || message.data.contains(&0) {
        return Err(format!("wrong line ends or long lines\n{:?}", message.text()));
    }
    equal("the body", &String::from_utf8_lossy(message.body()), &String::from_utf8_lossy(&device.body))
}

/// A date as RFC 5322 section 3.3 wants it: `Mon, 23 Nov 2026 01:02:03 +0100`.
fn is_date(text: &str) -> bool {
    let text = text.split(" (").next().unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = match words.first() {
        Some(day) if day.ends_with(',') => &words[1..],
        _ => &words[..],
    };
    let [day, month, year, time, zone] = words else { return false };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let clock: Vec<Option<u32>> = time.split(':').map(|part| part.parse().ok()).collect();
    day.parse::<u32>().is_ok_and(|day| (1..=31).contains(&day))
        && months.contains(month)
        && year.len() == 4
        && matches!(clock[..], [Some(0..=23), Some(0..=59)] | [Some(0..=23), Some(0..=59), Some(0..=60)])
        && (zone.len() == 5 && zone.starts_with(['+', '-']) || *zone == "GMT")
}

fn library() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/devices");
    let entries = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "txt")).collect();
    files.sort();
    files
}

#[tokio::test]
async fn every_conversation_ends_in_one_correct_mail() {
    let bed = Bed::start().await;
    let (mut table, mut failures) = (Vec::new(), Vec::new());
    for file in library() {
        let device = script::read(&file);
        let manners = if device.sendmail.is_some() { &[Manner::Local][..] } else { &Manner::REMOTE };
        for manner in manners {
            for login in [true, false] {
                if login && !device.has_login() {
                    continue;
                }
                let words = if login { ", login" } else { "" };
                let verdict = bed.verdict(&device, *manner, login).await;
                let row =
                    format!("{:<44} {:<20} {:<9}", device.name, format!("{}{words}", manner.name()), device.source);
                match verdict {
                    Ok(()) => table.push(format!("{row} one correct mail")),
                    Err(why) => {
                        table.push(format!("{row} FAILED"));
                        failures.push(format!("{row} {why}"));
                    }
                }
            }
        }
    }
    println!("{}", table.join("\n"));
    println!("{} conversations of {} devices", table.len(), library().len());
    assert_eq!(failures, Vec::<String>::new(), "\n{}", failures.join("\n"));
    assert_eq!(bed.provider.complaints(), Vec::<String>::new());
    assert!(table.len() > 100, "where is the library?");
}

/// The check of the check: what is not one correct mail is seen.
#[tokio::test]
async fn what_is_wrong_is_seen() {
    let bed = Bed::start().await;
    let file = library().into_iter().find(|file| file.ends_with("apcupsd.txt")).unwrap();
    let judged = async |change: &dyn Fn(&mut Device)| {
        let mut device = script::read(&file);
        change(&mut device);
        bed.verdict(&device, Manner::InTurn, false).await.err().unwrap_or_default()
    };
    assert_eq!(judged(&|_| {}).await, "");
    assert!(judged(&|device| device.sender = ACCOUNT_FROM.into()).await.starts_with("the sender is"));
    assert!(judged(&|device| device.recipients.push("x@y.z".into())).await.starts_with("the recipients"));
    assert!(judged(&|device| device.subject = Some("other".into())).await.starts_with("the subject"));
    assert!(judged(&|device| device.body.push(b'x')).await.starts_with("the body"));
    assert!(judged(&|device| device.steps.insert(0, (Step::Expect(354), false))).await.starts_with("wanted 354"));
    for (text, right) in [
        ("Mon, 23 Nov 2026 01:02:03 +0100", true),
        ("23 Nov 2026 01:02 +0100 (CET)", true),
        ("2026-11-23 01:02:03", false),
        ("Mon, 23 Nov 2026 01:02:03", false),
        ("", false),
    ] {
        assert_eq!(is_date(text), right, "{text}");
    }
}
