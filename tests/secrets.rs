// SPDX-License-Identifier: Apache-2.0
//! Passwords: stored encrypted, in force at once, and shown nowhere.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use support::ask::{Ran, SOON, json, queue, run, send};
use support::provider::{Fault, Provider, Step, Times};
use support::relay::{Relay, RelayBuilder, Section};

const USER: &str = "me@example.com";

/// A provider that wants this password, and the account there; `name` is also the domain of the recipients that go there.
async fn account(name: &str, password: &str) -> (Provider, Section, Section) {
    let provider = Provider::builder().login(USER, password).start().await;
    let route = Section::new("route", &format!("to_{name}"))
        .list("account", name)
        .list("recipient", format!("*@{name}.example"));
    (provider.clone(), Section::account(name, &provider), route)
}

fn without_password(section: Section) -> Section {
    section.option("password", "")
}

/// `smtprelay password` with this on its standard input.
async fn enter(relay: &Relay, words: &[&str], input: &str) -> Ran {
    Ran::of(relay.command_with_input(&[&["password"], words].concat(), input.as_bytes()).await)
}

/// Asks over the private socket; returns the line that is answered.
async fn ask(relay: &Relay, method: &str, params: Value) -> String {
    let mut stream = BufReader::new(UnixStream::connect(relay.spool().join("control.sock")).await.unwrap());
    let request = format!("{}\n", json!({ "method": method, "params": params }));
    stream.get_mut().write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}

/// The forms in which a password may come to light.
fn forms(password: &str) -> Vec<String> {
    let percent: String = password
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let plain = STANDARD.encode(format!("\0{USER}\0{password}"));
    vec![password.to_owned(), STANDARD.encode(password), plain, percent]
}

/// Whether a form of one of `passwords` is in `bytes`.
fn found(bytes: &[u8], passwords: &[&str]) -> Option<String> {
    let forms = passwords.iter().flat_map(|password| forms(password));
    forms.into_iter().find(|form| bytes.windows(form.len()).any(|part| part == form.as_bytes()))
}

/// A reply of a provider that repeats what it was sent, in every form.
fn telltale(code: &str, password: &str) -> Fault {
    Fault::Reply(format!("{code} no: {}", forms(password).join(" or ")))
}

/// The arguments of all processes, as `ps` shows them.
fn process_list() -> Vec<u8> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).flatten().collect()
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all
}

/// Everything that a command of the program says; a line of JSON or not.
async fn all_commands(relay: &Relay, id: &str) -> Vec<u8> {
    let mut all = Vec::new();
    let show = format!("queue show {id}");
    for command in ["check", "show", "status", "queue", &show, "history", "devices", "providers gmail"] {
        let ways: &[&str] = if matches!(command, "check" | "show") { &[""] } else { &["", " --json"] };
        for way in ways {
            let ran = run(relay, &format!("{command}{way}")).await;
            assert_eq!(ran.code, 0, "{command}: {ran:?}");
            all.extend_from_slice(ran.out.as_bytes());
            all.extend_from_slice(ran.err.as_bytes());
        }
    }
    for (method, params) in [
        ("status", json!({})),
        ("queue", json!({})),
        ("message", json!({ "id": id })),
        ("history", json!({})),
        ("devices", json!({})),
    ] {
        all.extend_from_slice(ask(relay, method, params).await.as_bytes());
    }
    all
}

#[tokio::test]
async fn no_password_comes_to_light() {
    let (written, stored, wrong) = ("wr1tten +word/a", "st0red %word&ä=", "wr0ng-guess!of=it");
    let passwords = [written, stored, wrong];
    let (first, first_account, first_route) = account("written", written).await;
    let (second, second_account, second_route) = account("stored", stored).await;
    let builder = Relay::builder().relay_option("log_level", "debug").section(first_account);
    let builder = builder.section(without_password(second_account)).section(first_route).section(second_route);
    let mut relay = builder.start().await;

    // A login that is refused by a server that repeats it, then a recipient.
    first.set_fault(Step::Auth, telltale("535 5.7.8", written), Times::First(1));
    first.set_fault(Step::Rcpt("gone@written.example".into()), telltale("550 5.1.1", written), Times::First(1));
    first.set_fault(Step::Rcpt("later@written.example".into()), telltale("451 4.2.1", written), Times::Always);
    first.set_fault(Step::Dot, telltale("250 2.0.0", written), Times::Always);
    let mark = relay.mark();
    send(&relay, &["gone@written.example"], "x").await;
    let paused = relay.wait_log_from(mark, |line| line.contains("event=paused"), SOON).await;
    assert!(paused.contains("no: ******** or ******** or ******** or ********"), "{paused}");
    run(&relay, "wake").await;
    let id = send(&relay, &["later@written.example"], "x").await;
    relay.wait_log(|line| line.contains("event=deferred") && line.contains(&id), SOON).await;
    let failed = relay.wait_log(|line| line.contains("event=failed"), SOON).await;
    assert!(failed.contains("550 5.1.1 no: ******** or"), "{failed}");

    // An account without a password takes mail, and says what is missing.
    let mark = relay.mark();
    send(&relay, &["ops@stored.example"], "x").await;
    let paused = relay.wait_log_from(mark, |line| line.contains("event=paused"), SOON).await;
    assert!(paused.contains("account 'stored' has no password; enter it: smtprelay password stored"), "{paused}");
    // A wrong one at the command line: tried at once, and refused.
    second.set_fault(Step::Auth, telltale("535 5.7.8", wrong), Times::First(1));
    let mark = relay.mark();
    let mut seen = Vec::new();
    let ran = enter(&relay, &["stored"], &format!("{wrong}\n")).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.ends_with("the gateway now uses it\n"), "{ran:?}");
    seen.extend_from_slice(ran.out.as_bytes());
    let paused = relay.wait_log_from(mark, |line| line.contains("event=paused account=stored"), SOON).await;
    assert!(paused.contains("535 5.7.8 no: ********"), "{paused}");
    seen.extend(all_commands(&relay, &id).await);
    // What can't be one.
    for password in [format!("{stored}\n{written}"), stored.repeat(200)] {
        let answer = ask(&relay, "set_password", json!({ "account": "stored", "password": password })).await;
        assert!(answer.contains("\"kind\":\"wrong\""), "{answer}");
        seen.extend_from_slice(answer.as_bytes());
    }
    let answer = ask(&relay, "set_password", json!({ "account": "nobody", "password": stored })).await;
    assert!(answer.contains("\"kind\":\"not_found\""), "{answer}");
    seen.extend_from_slice(answer.as_bytes());
    // The right one: the mail that waited leaves.
    let answer = ask(&relay, "set_password", json!({ "account": "stored", "password": stored })).await;
    assert_eq!(answer, "{\"result\":{}}\n");
    second.wait_for_messages(1, SOON).await;
    seen.extend(all_commands(&relay, &id).await);

    // Somebody put the text itself where the encrypted file belongs.
    let file = relay.dir().join("secrets/stored.password");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, format!("{stored}\n")).unwrap();
    let mark = relay.mark();
    relay.sighup();
    let advice =
        relay.wait_log_from(mark, |line| line.contains("stored.password: it was not written by smtprelay"), SOON).await;
    assert!(advice.contains("enter it again: smtprelay password stored"), "{advice}");
    seen.extend(all_commands(&relay, &id).await);
    fs::write(&file, whole).unwrap();
    relay.sighup();

    // Of the program itself; under an emulator they are the emulator's, and as good.
    let pid = relay.pid();
    for name in ["cmdline", "environ"] {
        seen.extend(fs::read(format!("/proc/{pid}/{name}")).unwrap());
    }
    seen.extend(process_list());
    send(&relay, &["ops@stored.example"], "x").await;
    second.wait_for_messages(2, SOON).await;
    relay.sigterm();
    assert!(relay.wait_exit().await.success());
    seen.extend_from_slice(relay.log().join("\n").as_bytes());

    // The hunt finds what is there: the options of the settings, and what the provider said.
    assert_eq!(found(&fs::read(relay.config_path()).unwrap(), &[written]).as_deref(), Some(written));
    assert!(found(first.transcript().as_bytes(), &[written]).is_some());
    assert!(found(second.transcript().as_bytes(), &[wrong]).is_some());
    assert_eq!(found(&seen, &passwords), None);
    for provider in [&first, &second] {
        for message in provider.messages() {
            assert_eq!(found(&message.data, &passwords), None, "in a mail");
        }
    }
    let mut looked_at = 0;
    for path in files(relay.dir()).into_iter().filter(|path| *path != relay.config_path()) {
        assert_eq!(found(&fs::read(&path).unwrap(), &passwords), None, "{}", path.display());
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{} is {:o}", path.display(), mode);
        looked_at += 1;
    }
    // The key, the password, a message, the history.
    assert!(looked_at >= 4, "{looked_at}");
}

#[tokio::test]
async fn a_password_is_stored_without_a_gateway_and_used_by_the_next() {
    let (provider, section, _) = account("acme", "s3cret word").await;
    let builder: RelayBuilder = Relay::builder().section(without_password(section));
    let mut relay = builder.prepare();
    let file = relay.dir().join("secrets/acme.password");
    for (words, input, code, said) in [
        (&["nobody"][..], "x\n", 64, "no account is named 'nobody'"),
        (&["acme"], "", 64, "the password is empty; nothing was changed; use --delete to remove"),
        (&["acme"], "\n", 64, "the password is empty; nothing was changed"),
        (&["acme"], "a\tb\n", 64, "the password contains a control character"),
        (&["acme"], &"x".repeat(3000), 64, "the password has more than 1024 bytes"),
        (&["acme", "s3cret"], "", 64, "password takes only an account name"),
        (&[], "", 64, "password requires an account name"),
        (&["acme", "--yes"], "x\n", 64, "option --yes is not valid with password"),
    ] {
        let ran = enter(&relay, words, input).await;
        assert_eq!(ran.code, code, "{words:?} {ran:?}");
        assert!(ran.err.contains(said) && ran.out.is_empty() && !file.exists(), "{words:?} {ran:?}");
    }
    let ran = enter(&relay, &["acme", "--delete"], "").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "no password is stored for account 'acme'\n"));
    // One line, and only its end is no part of it.
    let ran = enter(&relay, &["acme"], "s3cret word\r\nnext line\n").await;
    let said = format!("the password of account 'acme' is stored encrypted in {}\n", file.display());
    assert_eq!((ran.code, ran.err.as_str(), ran.out), (0, "", said));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));

    relay.restart().await;
    send(&relay, &["ops@example.com"], "x").await;
    provider.wait_for_messages(1, SOON).await;
    // Removed while it is in use: the next mail waits.
    let ran = enter(&relay, &["acme", "--delete"], "").await;
    let said = "the stored password of account 'acme' has been removed\nthe gateway no longer uses it\n";
    assert_eq!((ran.code, ran.out.as_str(), file.exists()), (0, said, false));
    let mark = relay.mark();
    send(&relay, &["ops@example.com"], "x").await;
    relay.wait_log_from(mark, |line| line.contains("account 'acme' has no password"), SOON).await;
    assert_eq!(queue(&relay).await.len(), 1);
    // An option goes first, and says so.
    relay.configure("account", "acme", |section| section.option("password", "s3cret word"));
    relay.sighup();
    provider.wait_for_messages(2, SOON).await;
    let ran = enter(&relay, &["acme"], "another\n").await;
    assert!(ran.out.contains("still takes precedence; remove it: uci delete smtprelay.acme.password"), "{ran:?}");
    let ran = run(&relay, "check").await;
    assert!(ran.err.contains("warning: account 'acme' has both an option password and a stored password"), "{ran:?}");
    let ran = run(&relay, "show").await;
    assert!(ran.out.contains("option password '********'"), "{ran:?}");
    assert_eq!(provider.complaints(), [""; 0]);
}

#[tokio::test]
async fn devices_say_who_they_are_and_whether_they_may_send() {
    let (_provider, section, _) = account("acme", "s3cret").await;
    let device = Section::new("device", "pump").list("ip", "127.0.0.1");
    let relay = Relay::builder().section(section).section(device).start().await;
    send(&relay, &["ops@example.com"], "x").await;
    let devices = json(&relay, "devices").await;
    let facts =
        ["client", "name", "mac", "section", "allowed", "helo"].map(|field| devices["devices"][0][field].clone());
    assert_eq!(facts, [json!("127.0.0.1"), json!(""), json!(""), json!("pump"), json!(true), json!("plc")]);
    let answer: Value = serde_json::from_str(&ask(&relay, "devices", json!({})).await).unwrap();
    assert_eq!(answer["result"]["devices"][0]["section"], json!("pump"));
}

/// `smtprelay password acme` at a terminal.
struct Typist {
    child: std::process::Child,
    terminal: fs::File,
    /// The program's end, to look at its settings.
    other: OwnedFd,
    seen: String,
}

impl Typist {
    fn new(relay: &Relay) -> Self {
        let pty = openpty(None, None).unwrap();
        // Other tests start programs as well: with this end in their hands it would never be seen to close.
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        let program = relay.program();
        // A test run in the background (nohup, &) ignores signals, and so would the program.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,QUIT,TERM").arg(program.get_program()).args(program.get_args());
        command.args(["password", "acme", "--config"]).arg(relay.config_path());
        command.stdin(end(&pty.slave)).stdout(end(&pty.slave)).stderr(end(&pty.slave));
        let child = command.spawn().unwrap();
        Self { child, terminal: fs::File::from(pty.master), other: pty.slave, seen: String::new() }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.other).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    /// Waits until this is on the screen.
    fn sees(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut input = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
            let limit = PollTimeout::try_from(SOON).unwrap();
            assert_eq!(poll(&mut input, limit).unwrap(), 1, "never {text:?}: {:?}", self.seen);
            let mut bytes = [0; 1024];
            let count = self.terminal.read(&mut bytes).unwrap();
            self.seen += &String::from_utf8_lossy(&bytes[..count]);
        }
    }

    fn types(&mut self, text: &str) {
        assert!(!self.echoes());
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    fn ends(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        assert!(self.echoes(), "the terminal stays silent");
        (status, self.seen)
    }
}

#[test]
fn at_a_terminal_it_asks_twice_and_shows_nothing() {
    // No other test has this word: tests run at the same time, and the list of processes shows theirs as well.
    const TYPED: &str = "typed-by-hand";
    let section = Section::custom_account("acme", "127.0.0.1", 1, "implicit").option("username", USER);
    let relay = Relay::builder().section(section).prepare();
    let file = relay.dir().join("secrets/acme.password");
    let answers = |first: &str, second: Option<&str>, last: &str| {
        let mut typist = Typist::new(&relay);
        typist.sees("Password of account 'acme'");
        typist.types(first);
        assert_eq!(found(&process_list(), &[TYPED]), None);
        if let Some(second) = second {
            typist.sees("Repeat password: ");
            typist.types(second);
        }
        typist.sees(last);
        let (status, seen) = typist.ends();
        assert!(!seen.contains(TYPED), "{seen}");
        status.code()
    };
    assert_eq!(
        answers(&format!("{TYPED}\n"), Some(&format!("{TYPED}s\n")), "the passwords do not match; nothing was changed"),
        Some(64)
    );
    assert!(!file.exists());
    assert_eq!(answers(&format!("{TYPED}\n"), Some(&format!("{TYPED}\n")), "is stored encrypted in "), Some(0));
    assert!(file.exists());
    assert_eq!(answers("\n", None, "the stored password of account 'acme' has been removed"), Some(0));
    assert!(!file.exists());
    // Ended from outside while the terminal does not echo.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut typist = Typist::new(&relay);
        typist.sees("Password of account 'acme'");
        typist.types("half a ");
        kill(Pid::from_raw(i32::try_from(typist.child.id()).unwrap()), signal).unwrap();
        let (status, _) = typist.ends();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal as i32));
    }
    assert!(!file.exists());
}
