// SPDX-License-Identifier: Apache-2.0
//! New settings for a gateway that runs, and events of the network: what has not changed goes on as it was.

mod support;

use serde_json::Value;
use support::ask::{SOON, hello, json, queue, queue_until, run, said, send};
use support::client::Client;
use support::provider::{Fault, Provider, ProviderBuilder, Record, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};

const LATE: &str = "late@example.com";
const OPS: &str = "ops@example.com";

fn provider() -> ProviderBuilder {
    Provider::builder().tls(TlsMode::Implicit).login("u", "p")
}

fn account(name: &str, provider: &Provider) -> Section {
    Section::account(name, provider).option("from_policy", "keep")
}

/// An account for everything, and another one for mail to `ops@other.example`.
fn relay_to(first: &Provider, second: &Provider) -> RelayBuilder {
    let route = Section::new("route", "other").list("account", "second").list("recipient", "*@other.example");
    let second = account("second", second).option("default", 0);
    Relay::builder().section(account("first", first)).section(second).section(route)
}

/// Has the settings read again.
async fn reload(relay: &Relay) {
    let mark = relay.mark();
    relay.sighup();
    relay.wait_log_from(mark, |line| field(line, "event") == Some("reloaded"), SOON).await;
}

/// Sends a mail that gets through: what was started before it is seen by then.
async fn passes(relay: &Relay, to: &str) {
    let mark = relay.mark();
    let id = send(relay, &[to], "passes").await;
    let gone = |line: &str| field(line, "event") == Some("removed") && field(line, "id") == Some(&id);
    relay.wait_log_from(mark, gone, SOON).await;
}

/// Has devices say this, each on a connection of its own, until the last command is answered like this: listeners learn of
/// new settings a moment after the log.
async fn answered(relay: &Relay, commands: &[&str], code: u16) {
    let there = async {
        loop {
            let mut device = hello(relay).await;
            let mut last = 0;
            for command in commands {
                last = device.command(command).await.code;
            }
            if last == code {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, there).await.unwrap_or_else(|_| panic!("no {code} to {commands:?}"));
}

/// How often RCPT for this address has come.
fn tries(provider: &Provider, address: &str) -> usize {
    tried(&provider.record(), address)
}

fn tried(record: &Record, address: &str) -> usize {
    let line = format!("rcpt to:<{address}>");
    record.transcript.iter().filter(|event| event.text.to_lowercase().contains(&line)).count()
}

/// Waits until RCPT for this address has come so often.
async fn wait_for_tries(provider: &Provider, address: &str, count: usize) {
    let enough = |record: &Record| (tried(record, address) >= count).then_some(());
    provider.wait_until("another try", SOON, enough).await;
}

/// A message that its provider has put off, and that nothing but time or the owner brings forward: the provider takes other
/// mail.
async fn put_off(relay: &Relay, provider: &Provider) -> Value {
    provider.set_fault(Step::Rcpt(LATE.into()), Fault::Reply("451 4.7.1 Greylisted".into()), Times::Always);
    send(relay, &[LATE], "late").await;
    queue_until(relay, |all| all.len() == 1 && all[0]["standing"] == "later").await;
    passes(relay, OPS).await;
    // That others were taken is a reason to try it once more.
    let twice = |all: &[Value]| all.len() == 1 && all[0]["standing"] == "later" && all[0]["attempts"] == 2;
    queue_until(relay, twice).await.remove(0)
}

#[tokio::test]
async fn a_reload_with_equal_settings_tries_nothing_and_keeps_connections() {
    let (first, second) = (provider().start().await, provider().start().await);
    let relay = relay_to(&first, &second).relay_option("retry_min", "1h").start().await;
    put_off(&relay, &first).await;
    let connections = first.connections().len();
    for _ in 0..3 {
        reload(&relay).await;
        passes(&relay, OPS).await;
    }
    assert_eq!(tries(&first, LATE), 2, "{}", first.transcript());
    assert_eq!(first.connections().len(), connections, "{}", first.transcript());
    assert_eq!(queue(&relay).await[0]["attempts"], 2);
}

#[tokio::test]
async fn a_reload_with_equal_settings_does_not_end_the_pause_of_a_refused_login() {
    let (first, second) = (provider().start().await, provider().start().await);
    first.set_fault(Step::Auth, Fault::Reply("535 5.7.8 Bad credentials".into()), Times::Always);
    let mut relay = relay_to(&first, &second).start().await;
    send(&relay, &[OPS], "waits").await;
    relay.wait_log(|line| field(line, "event") == Some("paused"), SOON).await;
    for round in 0..3 {
        // Also when something else has changed.
        relay.configure("relay", "main", |section| section.option("delay_notice", format!("{}h", round + 1)));
        reload(&relay).await;
        // An uplink that comes up says nothing of a password.
        said(&relay, "wake uplink-wan").await;
        passes(&relay, "ops@other.example").await;
    }
    let logins = |provider: &Provider| provider.transcript().matches("S: 535 5.7.8").count();
    assert_eq!(logins(&first), 1, "{}", first.transcript());
    // With another password it is tried at once.
    first.clear_faults();
    first.change(|settings| settings.login = Some(("u".into(), "new".into())));
    relay.configure("account", "first", |section| section.option("password", "new"));
    reload(&relay).await;
    first.wait_for_messages(1, SOON).await;
}

#[tokio::test]
async fn attempts_before_their_time_make_no_message_wait_longer() {
    let (first, second) = (provider().start().await, provider().start().await);
    let relay = relay_to(&first, &second).relay_option("retry_min", "10m").start().await;
    let mut last = put_off(&relay, &first).await;
    for round in 1..=5 {
        said(&relay, "queue retry all").await;
        let tried = |all: &[Value]| all[0]["standing"] == "later" && all[0]["attempts"] == 2 + round;
        last = queue_until(&relay, tried).await.remove(0);
    }
    let next = last["next"].as_u64().unwrap();
    assert!(next <= 600, "{last}");
}

#[tokio::test]
async fn a_flapping_uplink_is_one_waking() {
    let (first, second) = (provider().start().await, provider().start().await);
    let relay = relay_to(&first, &second).relay_option("retry_min", "10m").start().await;
    put_off(&relay, &first).await;
    let woken = |line: &str| field(line, "event") == Some("woken");
    for network in ["wan", "wan6", "wan", "wan6", "wan", "wwan"] {
        said(&relay, &format!("wake uplink-{network}")).await;
    }
    relay.wait_lines(woken, 1, SOON).await;
    // What came after the first is not lost: it is one more, at the end of half a minute.
    let lines = relay.wait_lines(woken, 2, SOON).await;
    assert!(lines[0].contains("reason=uplink-wan") && lines[1].contains("reason=uplink-wwan"), "{lines:?}");
    let tried = |all: &[Value]| all.len() == 1 && all[0]["standing"] == "later" && all[0]["attempts"] == 4;
    let message = queue_until(&relay, tried).await.remove(0);
    assert!(message["next"].as_u64().unwrap() <= 600, "{message}");
    passes(&relay, OPS).await;
    assert_eq!(relay.log().iter().filter(|line| woken(line)).count(), 2);
}

#[tokio::test]
async fn only_mail_whose_account_has_changed_is_tried_again() {
    let (first, second) = (provider().start().await, provider().start().await);
    let mut relay = relay_to(&first, &second).relay_option("retry_min", "1h").start().await;
    put_off(&relay, &first).await;
    // Another account, another route: the mail that waits has nothing to do with either.
    relay.configure("account", "second", |section| section.option("timeout", "50s"));
    relay.configure("route", "third", |section| section.list("account", "second").list("recipient", "x@y.example"));
    reload(&relay).await;
    passes(&relay, "x@y.example").await;
    passes(&relay, OPS).await;
    assert_eq!(tries(&first, LATE), 2, "{}", first.transcript());
    // Its own account: at once.
    relay.configure("account", "first", |section| section.option("timeout", "50s"));
    reload(&relay).await;
    wait_for_tries(&first, LATE, 3).await;
    // A route that leads it to another account: at once, by that.
    relay.configure("route", "other", |section| section.list("recipient", LATE));
    reload(&relay).await;
    wait_for_tries(&second, LATE, 1).await;
    queue_until(&relay, <[Value]>::is_empty).await;
}

#[tokio::test]
async fn a_shorter_retry_max_holds_for_mail_that_waits() {
    let (first, second) = (provider().start().await, provider().start().await);
    let mut relay = relay_to(&first, &second).relay_option("retry_min", "1h").start().await;
    put_off(&relay, &first).await;
    relay.configure("relay", "main", |section| section.option("retry_min", "1s").option("retry_max", "5s"));
    reload(&relay).await;
    wait_for_tries(&first, LATE, 3).await;
    assert_eq!(json(&relay, "status").await["queue"]["messages"], 1);
}

#[tokio::test]
async fn a_deleted_account_is_out_of_use_at_once_and_its_password_is_offered_to_go() {
    let provider = provider().start().await;
    let unset = account("old", &provider).option("password", "");
    let mut relay = Relay::builder().section(unset.clone()).start().await;
    assert!(relay.command_with_input(&["password", "old"], b"p\n").await.status.success());
    passes(&relay, OPS).await;

    // The only one: the settings are in force all the same, and mail waits.
    relay.take_away("account", "old");
    let ran = run(&relay, "reload").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in [
        "no account is enabled: mail is accepted and stays in the queue",
        "to remove it, run smtprelay password old --delete",
    ] {
        assert!(ran.err.contains(part), "{part}: {ran:?}");
    }
    let id = send(&relay, &[OPS], "waits").await;
    let status = json(&relay, "status").await;
    assert_eq!((&status["state"], &status["settings"]["error"]), (&"no_account".into(), &Value::Null), "{status}");
    assert_eq!(status["settings"]["secrets_left"], serde_json::json!(["old"]));
    let waits = queue(&relay).await.remove(0);
    assert!(waits["why"].as_str().unwrap().starts_with("no account is enabled for this mail"), "{waits}");
    assert_eq!(provider.messages().len(), 1);

    // Another name for the same account: it lacks its password, and who knows why is told.
    relay.configure("account", "new", |_| unset.clone().named("new"));
    let ran = run(&relay, "check").await;
    assert!(
        ran.err.contains(
            "if account 'new' is the same account with a new name, enter its password again: smtprelay password new"
        ),
        "{ran:?}"
    );
    // Before any mail has failed over it.
    reload(&relay).await;
    let status = json(&relay, "status").await;
    let health = status["health"].as_str().unwrap();
    assert!(status["state"] == "paused" && health.contains("has no password"), "{status}");
    let told = said(&relay, "password old --delete").await;
    assert!(told.contains("removed the stored secrets of account 'old'"), "{told}");
    assert!(!relay.dir().join("secrets/old.password").exists());
    let status = json(&relay, "status").await;
    assert_eq!(status["settings"]["secrets_left"], serde_json::json!([]), "{status}");
    assert!(!status["settings"]["warnings"].to_string().contains("--delete"), "{status}");
    reload(&relay).await;
    assert!(relay.command_with_input(&["password", "new"], b"p\n").await.status.success());
    let gone = |line: &str| field(line, "event") == Some("removed") && field(line, "id") == Some(&id);
    relay.wait_log(gone, SOON).await;
    assert_eq!(run(&relay, "password old --delete").await.code, 64);
}

#[tokio::test]
async fn whatever_is_deleted_is_out_of_use_though_others_name_it() {
    let (first, second) = (provider().start().await, provider().start().await);
    let mut relay = relay_to(&first, &second)
        .listener_option("auth", "optional")
        .section(Section::new("device", "plc").list("ip", "127.0.0.1").list("allow_recipient", "*@*example*"))
        .section(Section::new("user", "cam").option("password", "secret"))
        .section(Section::new("route", "named").list("account", "first").list("device", "plc").list("login", "cam"))
        .start()
        .await;
    // The account of a route: its mail waits, and takes no other way.
    relay.take_away("account", "second");
    reload(&relay).await;
    send(&relay, &["ops@other.example"], "waits").await;
    passes(&relay, OPS).await;
    let waits = queue(&relay).await.remove(0);
    assert!(waits["why"].as_str().unwrap().starts_with("no account is enabled for this mail"), "{waits}");
    assert_eq!(second.messages().len(), 0);
    // A route: its mail goes as all other mail.
    relay.take_away("route", "other");
    reload(&relay).await;
    queue_until(&relay, <[Value]>::is_empty).await;
    // A device, with what it may not do.
    relay.take_away("device", "plc");
    reload(&relay).await;
    answered(&relay, &["MAIL FROM:<plc@example.com>", "RCPT TO:<ops@elsewhere.org>"], 250).await;
    // A login, the last one.
    answered(&relay, &["AUTH PLAIN AGNhbQBzZWNyZXQ="], 235).await;
    relay.take_away("user", "cam");
    reload(&relay).await;
    answered(&relay, &["AUTH PLAIN AGNhbQBzZWNyZXQ="], 535).await;
    // A listener, the last one.
    let address = relay.addr();
    relay.take_away("listener", "lan");
    reload(&relay).await;
    let closed = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, closed).await.expect("a listener that is gone");
    let status = json(&relay, "status").await;
    assert_eq!(
        (&status["listeners"], &status["settings"]["error"]),
        (&serde_json::json!([]), &Value::Null),
        "{status}"
    );
    // Programs on the router still send.
    let sent = relay.command_with_input(&["send", "-f", "ups@example.com", OPS], b"Subject: local\n\nx\n").await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let local = |record: &support::provider::Record| {
        record.attempts.iter().any(|mail| mail.accepted && mail.text().contains("Subject: local")).then_some(())
    };
    first.wait_until("the local mail", SOON, local).await;
}

/// What `status` says of the queue: bytes that it may take.
async fn limit(relay: &Relay) -> u64 {
    json(relay, "status").await["queue"]["limit"].as_u64().expect("a number")
}

#[tokio::test]
async fn limits_hold_from_the_reload_on() {
    let provider = provider().start().await;
    provider.stop().await;
    let mut relay = Relay::builder().section(account("only", &provider)).start().await;
    send(&relay, &[OPS], "waits").await;
    relay.configure("relay", "main", |section| section.option("spool_limit", "64K").option("message_limit", "32K"));
    reload(&relay).await;
    assert_eq!(limit(&relay).await, 64 << 10);
    let size = |text: &str| text.contains("SIZE 32768");
    let announced = async {
        let mut device = Client::greeted(relay.addr()).await;
        while !size(&device.command("EHLO plc").await.text()) {
            device = Client::greeted(relay.addr()).await;
        }
    };
    tokio::time::timeout(SOON, announced).await.expect("the new limit of a message");
    // Full by now: what waits stays, what is new is refused, until there is more room again.
    let mut device = hello(&relay).await;
    let text = format!("Subject: large\r\n\r\n{}", "x\r\n".repeat(10_000));
    let mut codes = Vec::new();
    for _ in 0..4 {
        device.command("RSET").await;
        codes.push(device.send("plc@example.com", &[OPS], &text).await.code);
    }
    assert!(codes.contains(&452) && codes[0] == 250, "{codes:?}");
    relay.configure("relay", "main", |section| section.option("spool_limit", "1M"));
    reload(&relay).await;
    assert_eq!(send(&relay, &[OPS], "fits").await.len(), 10);
    assert_eq!(limit(&relay).await, 1 << 20);
}

#[tokio::test]
async fn what_needs_a_restart_says_so_and_stays_as_it_was() {
    let provider = provider().start().await;
    let mut relay = Relay::builder().section(account("only", &provider)).start().await;
    let other = relay.dir().join("other").display().to_string();
    for (name, value, before) in [
        ("spool", other.as_str(), relay.spool().display().to_string().as_str()),
        ("safe_spool", other.as_str(), relay.safe_spool().display().to_string().as_str()),
        ("durability", "memory", "deferred"),
        ("hook", other.as_str(), "/sbin/hotplug-call"),
        ("user", "nobody", "root"),
        ("jail", "0", "1"),
        ("enabled", "0", "1"),
    ] {
        let sentence = format!("a change to option {name} takes effect at the next start: service smtprelay restart");
        relay.configure("relay", "main", |section| section.option(name, value));
        let checked = run(&relay, "check").await;
        assert!(checked.code == 0 && checked.err.contains(&sentence), "{name}: {checked:?}");
        let ran = run(&relay, "reload").await;
        assert!(ran.code == 0 && ran.err.contains(&sentence), "{name}: {ran:?}");
        let status = json(&relay, "status").await;
        assert!(status["settings"]["warnings"].to_string().contains(&sentence), "{name}: {status}");
        assert_eq!(status["safe_spool"]["path"], relay.safe_spool().display().to_string());
        relay.configure("relay", "main", |section| section.option(name, before));
        let ran = run(&relay, "reload").await;
        assert!(ran.code == 0 && !ran.err.contains("next start"), "{name}: {ran:?}");
    }
    passes(&relay, OPS).await;
}
