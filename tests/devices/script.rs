// SPDX-License-Identifier: Apache-2.0
//! The files of the library: what a device says, and what has to arrive. The form is described in `docs/guide/devices.md`.

use std::path::Path;

/// How the bytes of a file became known.
pub const SOURCES: [&str; 4] = ["captured", "library", "reported", "manual"];

/// One step of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The device reads a reply and goes on only with this code.
    Expect(u16),
    /// The device sends.
    Send(Vec<u8>),
    /// The device does nothing for a while.
    Pause,
    /// The device closes the connection, without QUIT.
    Close,
    /// The device resets the connection once the message is in.
    Reset,
}

/// A file of the library.
#[derive(Debug, Default)]
pub struct Device {
    /// Name of the device.
    pub name: String,
    /// One of [`SOURCES`].
    pub source: String,
    /// Steps, and whether they belong to the login.
    pub steps: Vec<(Step, bool)>,
    /// Arguments of `sendmail`, for a program on the router; its input are the steps.
    pub sendmail: Option<Vec<String>>,
    /// Envelope sender that has to arrive.
    pub sender: String,
    /// Recipients that have to arrive.
    pub recipients: Vec<String>,
    /// What the subject has to be; `None`: nothing is asked.
    pub subject: Option<String>,
    /// The body that has to arrive, in CRLF.
    pub body: Vec<u8>,
}

impl Device {
    /// Whether a login can be left out.
    pub fn has_login(&self) -> bool {
        self.steps.iter().any(|(_, login)| *login)
    }

    /// The steps with or without the login.
    pub fn conversation(&self, login: bool) -> Vec<Step> {
        self.steps.iter().filter(|(_, of_login)| login || !of_login).map(|(step, _)| step.clone()).collect()
    }
}

/// Reads a file. Panics with file and line: a wrong file is a wrong test.
pub fn read(path: &Path) -> Device {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut device = Device::default();
    let (mut login, mut header) = (false, true);
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| -> ! { panic!("{}:{}: {what}: {line}", path.display(), number + 1) };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let bytes = || unescape(rest).unwrap_or_else(|| wrong("a wrong escape"));
        let with_end = || [bytes(), b"\r\n".to_vec()].concat();
        let step = match word {
            "device" => {
                device.name = rest.into();
                continue;
            }
            "source" if SOURCES.contains(&rest) => {
                device.source = rest.into();
                continue;
            }
            "sendmail" => {
                device.sendmail = Some(rest.split(' ').map(str::to_owned).collect());
                continue;
            }
            "sender" => {
                device.sender = rest.into();
                continue;
            }
            "recipient" => {
                device.recipients.push(rest.into());
                continue;
            }
            "subject" => {
                device.subject = Some(rest.into());
                continue;
            }
            // What arrives where it differs from what was sent.
            "arrives" => {
                device.body.extend(with_end());
                continue;
            }
            "login" => {
                login = rest == "begin";
                continue;
            }
            "expect" => Step::Expect(rest.parse().unwrap_or_else(|_| wrong("not a reply code"))),
            "send" => Step::Send(with_end()),
            "raw" => Step::Send(bytes()),
            "body" => {
                let line = with_end();
                // A dot in front was added on the way, whoever added it.
                device.body.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                Step::Send(line)
            }
            "pause" => Step::Pause,
            "close" => Step::Close,
            "reset" => Step::Reset,
            _ => wrong("an unknown word"),
        };
        header = false;
        device.steps.push((step, login));
    }
    let complete = !header && !device.name.is_empty() && !device.source.is_empty() && !device.recipients.is_empty();
    assert!(complete, "{}: device, source, recipient and steps are needed", path.display());
    assert!(text.starts_with("# "), "{}: the head has to say where this is from", path.display());
    device
}

/// `\r`, `\n`, `\t`, `\\` and `\xHH`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        out.push(match byte {
            b'\\' => match left.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'\\' => b'\\',
                b'x' => {
                    let digits = [left.next()?, left.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(out)
}
