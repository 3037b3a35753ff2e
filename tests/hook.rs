// SPDX-License-Identifier: Apache-2.0
//! The owner's script: what it is told when mail can't leave, fails, or can't be taken in.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::ask::{SOON, hello, queue_until, said, send};
use support::provider::{Fault, Provider, Step, Times, TlsMode};
use support::relay::{Relay, Section, field};

type Told = BTreeMap<String, String>;

/// A script that writes down its arguments and its whole environment.
struct Script {
    dir: tempfile::TempDir,
}

impl Script {
    fn new() -> Script {
        let dir = tempfile::Builder::new().prefix("smtprelay-hook-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let script = Script { dir };
        // Written beside and renamed, so that it is never seen in part.
        let text = format!(
            "#!/bin/sh\ncd '{}' || exit 1\n{{ echo \"ARGUMENTS=$*\"; echo OPEN=$(ls /proc/self/fd) $(readlink /proc/self/fd/0); env; }} >new\nmv new \"told.$(ls | wc -l)\"\n",
            script.dir.path().display()
        );
        std::fs::write(script.path(), text).unwrap();
        std::fs::set_permissions(script.path(), PermissionsExt::from_mode(0o755)).unwrap();
        script
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("script")
    }

    /// All calls so far, in order.
    fn calls(&self) -> Vec<Told> {
        let number =
            |path: &Path| path.extension().and_then(|end| end.to_str()).and_then(|end| end.parse::<usize>().ok());
        let files = std::fs::read_dir(self.dir.path()).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter_map(|path| Some((number(&path)?, path))).collect();
        files.sort();
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
        };
        files.into_iter().map(|(_, path)| read(path)).collect()
    }

    /// Waits for the `count`-th call with this action.
    async fn wait(&self, action: &str, count: usize) -> Told {
        let there = async {
            loop {
                let calls = self.calls();
                if let Some(call) = calls.iter().filter(|call| call["ACTION"] == action).nth(count - 1) {
                    return call.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(SOON, there).await {
            Ok(call) => call,
            Err(_) => panic!("no call {count} with {action}: {:#?}", self.calls()),
        }
    }
}

#[tokio::test]
async fn paused_resumed_and_failed() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "right").start().await;
    let gone = "gone@example.com";
    provider.set_fault(
        Step::Rcpt(gone.into()),
        Fault::Reply("550 5.1.1 No \"such\" user; rm -rf $HOME".into()),
        Times::Always,
    );
    let script = Script::new();
    // What whoever starts the gateway has left open, for all that it starts.
    let _left_open = nix::unistd::dup(std::fs::File::open("/dev/zero").unwrap()).unwrap();
    let account = Section::account("mine", &provider).option("from_policy", "keep");
    let mut relay = Relay::builder()
        .relay_option("hook", script.path().display())
        .section(account.clone().option("password", "wrong"))
        .env("SECRET", "of the gateway")
        .start()
        .await;
    let id = send(&relay, &[gone, "ops@example.com"], "alarm").await;
    let paused = script.wait("paused", 1).await;
    assert_eq!(
        (paused["ARGUMENTS"].as_str(), paused["SMTPRELAY_ACCOUNT"].as_str()),
        ("smtprelay", "mine"),
        "{paused:?}"
    );
    assert!(
        paused["SMTPRELAY_REASON"].contains("login") || paused["SMTPRELAY_REASON"].contains("password"),
        "{paused:?}"
    );
    assert_eq!((paused["SMTPRELAY_NEXT"].as_str(), paused["SMTPRELAY_COUNT"].as_str()), ("60", "1"));
    relay.configure("account", "mine", |_| account);
    relay.sighup();
    let resumed = script.wait("resumed", 1).await;
    assert_eq!(resumed["SMTPRELAY_ACCOUNT"], "mine");
    let failed = script.wait("failed", 1).await;
    assert_eq!(failed["SMTPRELAY_ID"], id);
    assert_eq!((failed["SMTPRELAY_TO"].as_str(), failed["SMTPRELAY_CLIENT"].as_str()), (gone, "127.0.0.1"));
    assert!(failed["SMTPRELAY_REASON"].contains("No \"such\" user; rm -rf $HOME"), "{failed:?}");
    // That the queue has room is told as well: a script may still show what an earlier run had told it. In which order they
    // come is not certain: the connection for the mail is opened while the device is still sending it.
    let mut actions: Vec<String> = script.calls().iter().map(|call| call["ACTION"].clone()).collect();
    actions.sort();
    assert_eq!(actions, ["failed", "paused", "queue_ok", "resumed"]);
    for call in script.calls() {
        println!("{call:?}");
        // Neither secrets nor anything else of the gateway gets out.
        let known = |name: &str| {
            name.starts_with("SMTPRELAY_")
                || ["ACTION", "ARGUMENTS", "OPEN", "PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name)
        };
        // Input, output, errors, and the directory that ls has open itself.
        assert_eq!(call["OPEN"], "0 1 2 3 /dev/null", "{call:?}");
        assert!(call.keys().all(|name| known(name)), "{call:?}");
        assert!(!call.values().any(|value| value.contains("right") || value.contains("wrong")), "{call:?}");
    }
}

/// Sends a mail of so many bytes and says the reply that decided about it.
async fn offer(relay: &Relay, bytes: usize, announced: bool) -> u16 {
    let mut device = hello(relay).await;
    let size = if announced { format!(" SIZE={bytes}") } else { String::new() };
    for (line, wanted) in [
        (format!("MAIL FROM:<plc@example.com>{size}").as_str(), 250),
        ("RCPT TO:<ops@example.com>", 250),
        ("DATA", 354),
    ] {
        let code = device.command(line).await.code;
        if code != wanted {
            return code;
        }
    }
    let text = format!("Subject: x\r\n\r\n{}", format!("{}\r\n", "x".repeat(62)).repeat(bytes / 64));
    device.write(text.as_bytes()).await.unwrap();
    device.command(".").await.code
}

fn count(relay: &Relay, event: &str) -> usize {
    relay.log().iter().filter(|line| field(line, "event") == Some(event)).count()
}

/// As [`count`], of an event that has happened: its line comes to us behind what the program does.
async fn count_once_there(relay: &Relay, event: &str) -> usize {
    relay.wait_lines(|line| field(line, "event") == Some(event), 1, SOON).await.len()
}

#[tokio::test]
async fn a_full_queue_is_told_once_and_so_is_its_end() {
    for announced in [true, false] {
        let provider = Provider::builder().tls(TlsMode::None).start().await;
        provider.stop().await;
        let script = Script::new();
        let mut relay = Relay::builder()
            .relay_option("hook", script.path().display())
            .relay_option("spool_limit", "200k")
            .section(Section::account("mine", &provider))
            .start()
            .await;
        assert_eq!(offer(&relay, 120_000, announced).await, 250);
        assert_eq!(count(&relay, "queue_full"), 0);
        for _ in 0..3 {
            assert_eq!(offer(&relay, 150_000, announced).await, 452);
        }
        let full = script.wait("queue_full", 1).await;
        assert!(full["SMTPRELAY_REASON"].contains("spool_limit"), "{full:?}");
        // That a small one still fits is not the end of it.
        assert_eq!(offer(&relay, 1000, announced).await, 250);
        assert_eq!((count_once_there(&relay, "queue_full").await, count(&relay, "queue_has_room")), (1, 0));
        queue_until(&relay, |all| all.iter().all(|message| message["standing"] != "sending")).await;
        said(&relay, "queue delete all").await;
        assert_eq!(offer(&relay, 1000, announced).await, 250);
        // The first one came with the first message.
        script.wait("queue_ok", 2).await;
        assert_eq!((count(&relay, "queue_full"), count_once_there(&relay, "queue_has_room").await), (1, 1));
        // A queue that keeps filling up while it drains is a line, and a number.
        for _ in 0..5 {
            assert_eq!(offer(&relay, 140_000, announced).await, 250);
            assert_eq!(offer(&relay, 140_000, announced).await, 452);
            queue_until(&relay, |all| all.iter().all(|message| message["standing"] != "sending")).await;
            said(&relay, "queue delete all").await;
            assert_eq!(offer(&relay, 1000, announced).await, 250);
        }
        relay.sigterm();
        relay.wait_exit().await;
        for event in ["queue_full", "queue_has_room"] {
            let log = relay.log();
            let lines = log.iter().filter(|line| field(line, "event") == Some(event));
            let times: Vec<_> = lines.map(|line| field(line, "times")).collect();
            assert_eq!(times, [None, Some("5")], "{log:#?}");
        }
    }
}

#[tokio::test]
async fn a_script_that_is_missing_or_fails_does_no_harm() {
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    provider.set_fault(Step::Rcpt("gone@example.com".into()), Fault::Reply("550 No".into()), Times::Always);
    for hook in ["/nowhere/at/all", "/etc/passwd", "/bin/false"] {
        let builder = Relay::builder().relay_option("hook", hook);
        let relay = builder.section(Section::account("mine", &provider).option("from_policy", "keep")).start().await;
        let before = provider.messages().len();
        send(&relay, &["gone@example.com"], "alarm").await;
        provider.wait_for_messages(before + 1, SOON).await;
        send(&relay, &["ops@example.com"], "alarm").await;
        provider.wait_for_messages(before + 2, SOON).await;
        if hook == "/etc/passwd" {
            relay.wait_log(|line| line.contains("the hook /etc/passwd: cannot be run"), SOON).await;
        }
    }
}
