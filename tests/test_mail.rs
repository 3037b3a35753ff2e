// SPDX-License-Identifier: Apache-2.0
//! `smtprelay test`: one mail, step by step. Each step fails in its turn and says what to do; no secret is shown.

mod support;

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::ask::{Ran, SOON, run, send};
use support::certs::{Cert, Certs};
use support::login_server::LoginServer;
use support::provider::{Fault, Gate, Provider, ProviderBuilder, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::{Names, TimeWarp};

const PASSWORD: &str = "s3cret-password";
const TO: &str = "me@example.com";
const STEPS: [&str; 7] = ["clock", "uplink", "dns", "tcp", "tls", "login", "accepted"];
/// 2026-11-23.
const NOW: i64 = 1_795_395_723;

fn provider(tls: TlsMode) -> ProviderBuilder {
    Provider::builder().tls(tls).login("plant", PASSWORD)
}

fn relay_to(provider: &Provider) -> RelayBuilder {
    Relay::builder().durability("memory").section(Section::account("gmail", provider).option("timeout", "5s"))
}

/// The outcome of a test for programs, with the exit code.
async fn tested(relay: &Relay, command: &str) -> (i32, Value) {
    let ran = run(relay, &format!("{command} --json")).await;
    let job = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran.code, job)
}

/// States of the steps, each by its first letter.
fn states(job: &Value) -> String {
    let steps = job["steps"].as_array().expect("a list");
    assert_eq!(steps.iter().map(|step| step["step"].as_str().unwrap()).collect::<Vec<_>>(), STEPS);
    steps.iter().filter_map(|step| step["state"].as_str().unwrap().chars().next()).collect()
}

/// The same, where the machine of the test may have no default route.
fn reached(job: &Value) -> String {
    states(job).replacen("os", "oo", 1)
}

/// Nothing of the login may be seen.
fn is_clean(text: &str) {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let forms = [
        PASSWORD.to_string(),
        BASE64_STANDARD.encode(PASSWORD),
        BASE64_STANDARD.encode(format!("\0plant\0{PASSWORD}")),
        BASE64_STANDARD.encode("plant"),
    ];
    for secret in forms {
        assert!(!text.contains(&secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_way_that_works_is_shown_step_by_step() {
    for tls in [TlsMode::Implicit, TlsMode::StartTls] {
        let provider = provider(tls).start().await;
        let relay = relay_to(&provider).start().await;
        let ran = run(&relay, &format!("test {TO} --verbose")).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        let marks: Vec<&str> =
            ran.out.lines().filter(|line| line.starts_with("✓ ") || line.starts_with("- ")).collect();
        for (line, step) in marks.iter().zip(STEPS) {
            assert_eq!(line.split([' ', ':']).nth(1), Some(step), "{}", ran.out);
        }
        assert_eq!(marks.len(), 7, "{}", ran.out);
        for part in [
            "✓ tls: TLSv1.3 with TLS13_",
            "signed by a known authority and valid until Fri, 31 Dec 2049",
            "✓ login: 127.0.0.1 accepted the login of 'plant'",
            "✓ accepted: 127.0.0.1 accepted the mail for me@example.com: 250 ",
            "  > AUTH PLAIN ********",
            "  < 235 ",
            "  > MAIL FROM:<relay@provider.example>",
            "  * TLSv1.3 from here on",
            " bytes of text)",
            "Account 'gmail' works: the test mail to me@example.com was accepted.",
        ] {
            assert!(ran.out.contains(part), "{part}\n{}", ran.out);
        }
        assert!(!ran.out.contains("It was requested"), "the text of the mail is shown\n{}", ran.out);
        is_clean(&ran.out);
        let mail = &provider.messages()[0];
        assert_eq!(
            (mail.sender.as_str(), mail.recipients.as_slice()),
            ("relay@provider.example", &[TO.to_string()][..])
        );
        let subject = mail.header("Subject").unwrap();
        assert!(subject.starts_with("smtprelay test: account gmail, "), "{subject}");
        assert_eq!(mail.header("Auto-Submitted").as_deref(), Some("auto-generated"));
        for name in ["From", "To", "Date", "Message-ID", "MIME-Version"] {
            assert_eq!(mail.headers(name).len(), 1, "{}", mail.text());
        }
        assert!(mail.text().contains("This is a test mail from smtprelay"), "{}", mail.text());
        assert_eq!(provider.complaints(), [""; 0]);
        // It was no mail of the queue.
        relay.wait_log(|line| line.contains("event=tested account=gmail to=<me@example.com> tls=TLSv1.3"), SOON).await;
        let status = support::ask::json(&relay, "status").await;
        assert_eq!(status["counters"]["delivered"], json!(0), "{status}");
    }
}

#[tokio::test]
async fn each_step_fails_in_its_turn_and_says_what_to_do() {
    let replies = |step, reply: &str| (step, Fault::Reply(reply.into()));
    type Case = (TlsMode, Option<(Step, Fault)>, Option<Cert>, &'static str, &'static str, &'static str);
    let cases: Vec<Case> = vec![
        (
            TlsMode::StartTls,
            Some(replies(Step::Greeting, "554 5.7.1 No service for you")),
            None,
            "ooofppp",
            "refuses this gateway: 554 5.7.1 No service for you",
            "if this persists, check host and port, and ask the provider why it rejects this uplink",
        ),
        (
            TlsMode::Implicit,
            None,
            Some(Cert::UnknownCa),
            "oooofpp",
            "is signed by an unknown authority",
            "for your own server, set ca_file or fingerprint; otherwise install ca-bundle; another server may be impersonating the provider",
        ),
        (
            TlsMode::StartTls,
            None,
            Some(Cert::Expired),
            "oooofpp",
            "the certificate of 127.0.0.1 has expired",
            "renew it; if it is still valid, this router's clock is wrong: check NTP",
        ),
        (
            TlsMode::Implicit,
            None,
            Some(Cert::WrongName),
            "oooofpp",
            "the certificate is not valid for 127.0.0.1",
            "check option host; another server may be impersonating the provider",
        ),
        (
            TlsMode::Implicit,
            Some(replies(Step::Auth, "534 5.7.9 Application-specific password required")),
            None,
            "ooooofp",
            "127.0.0.1 refused the login of 'plant': 534 5.7.9 Application-specific password required",
            "create an app password in the security settings of the mailbox and set it as the password",
        ),
        (
            TlsMode::StartTls,
            Some(replies(Step::Mail, "550 5.7.60 SMTP; Client does not have permissions to send as this sender")),
            None,
            "oooooof",
            "127.0.0.1 does not allow the account to send from its address: 550 5.7.60",
            "set option from to an address of the mailbox, and from_policy 'account'",
        ),
        (
            TlsMode::Implicit,
            Some(replies(Step::AnyRcpt, "550 5.1.1 No such user")),
            None,
            "oooooof",
            "127.0.0.1 refused it: 550 5.1.1 No such user",
            "the recipient does not exist there; check the address in the device",
        ),
        (
            TlsMode::Implicit,
            Some(replies(Step::Dot, "550 5.4.5 Daily user sending limit exceeded")),
            None,
            "oooooof",
            "127.0.0.1 accepts no more mail from this account for now: 550 5.4.5 Daily user sending limit exceeded",
            "the provider lifts the limit within 24 hours; send less mail or choose a larger plan",
        ),
    ];
    for (tls, fault, cert, wanted, text, remedy) in cases {
        let provider = provider(tls).cert(cert.unwrap_or(Cert::Good)).start().await;
        if let Some((step, fault)) = fault {
            provider.set_fault(step, fault, Times::Always);
        }
        let relay = relay_to(&provider).start().await;
        let (code, job) = tested(&relay, &format!("test gmail {TO}")).await;
        assert_eq!((code, &job["state"], reached(&job).as_str()), (1, &json!("failed"), wanted), "{job:#}");
        let failed = job["steps"].as_array().unwrap().iter().find(|step| step["state"] == "failed").unwrap();
        assert!(failed["text"].as_str().unwrap().contains(text), "{text}\n{failed:#}");
        assert_eq!(failed["remedy"], json!(remedy), "{failed:#}");
        assert!(job["text"].as_str().unwrap().contains(text), "{job:#}");
        is_clean(&job.to_string());
        // For people.
        let ran = run(&relay, &format!("test {TO}")).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.out.contains("✗ ") && ran.out.contains(&format!("\n  → {remedy}\n")), "{}", ran.out);
        assert!(ran.out.ends_with("Account 'gmail' is not working.\n"), "{}", ran.out);
        assert!(provider.messages().iter().all(|message| !message.accepted));
    }
}

#[tokio::test]
async fn an_account_without_a_password() {
    let provider = provider(TlsMode::Implicit).start().await;
    let relay = Relay::builder().section(Section::account("gmail", &provider).option("password", "")).start().await;
    let (code, job) = tested(&relay, &format!("test {TO}")).await;
    assert_eq!(code, 1);
    // All up to the login can be looked at.
    assert!(["ooooofp", "osooofp"].contains(&states(&job).as_str()), "{job:#}");
    assert!(job["steps"][5]["remedy"].as_str().unwrap().contains("smtprelay password gmail"), "{job:#}");
    assert!(job["steps"][5]["text"].as_str().unwrap().contains("password"), "{job:#}");
    let account = &support::ask::json(&relay, "status").await["accounts"][0];
    assert_eq!((&account["auth"], &account["secret"]), (&json!("password"), &json!("missing")));
    assert!(support::ask::said(&relay, "status").await.contains("login plant with a password, but none is set"));
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let provider = provider(TlsMode::Implicit).start().await;
    provider.stop().await;
    let relay = relay_to(&provider).start().await;
    let (code, job) = tested(&relay, &format!("test {TO}")).await;
    assert_eq!(code, 1);
    let states = states(&job);
    // Without a default route that is where the trouble is looked for.
    assert!(states == "ooofppp" || states == "ofofppp", "{job:#}");
    let text = job["steps"][3]["text"].as_str().unwrap();
    // qemu hands over this machine's number of the error, where that of MIPS is another one.
    let emulated = std::env::var_os("SMTPRELAY_RUNNER").is_some();
    let why = if emulated { "os error" } else { "refused" };
    assert!(text.starts_with("no connection to 127.0.0.1 (127.0.0.1:") && text.contains(why), "{text}");
    assert_eq!(job["steps"][3]["remedy"], json!("check the uplink, option host and option port"));
}

#[tokio::test]
async fn a_name_that_is_not_found() {
    let Some(time) = TimeWarp::new(NOW) else { return };
    let account = Section::custom_account("gmail", "mx.provider.invalid", 465, "implicit")
        .option("ca_file", Certs::new().ca_file().display())
        .option("verify", "0");
    let relay = time.around(Relay::builder().section(account)).start().await;
    if !time.rule(&relay) {
        return;
    }
    time.set_names(Names::Fail);
    let (code, job) = tested(&relay, &format!("test {TO}")).await;
    assert_eq!(code, 1);
    assert!(["oofpppp", "offpppp"].contains(&states(&job).as_str()), "{job:#}");
    let dns = &job["steps"][2];
    assert!(dns["text"].as_str().unwrap().starts_with("the name mx.provider.invalid cannot be resolved ("), "{dns}");
    assert_eq!(dns["remedy"], json!("the uplink or its DNS is down, or the name is wrong"));
}

#[tokio::test]
async fn a_clock_that_is_not_set() {
    let Some(time) = TimeWarp::new(60) else { return };
    let provider = provider(TlsMode::Implicit).start().await;
    let relay = time.around(relay_to(&provider)).start().await;
    if !time.rule(&relay) {
        return;
    }
    let (code, job) = tested(&relay, &format!("test {TO}")).await;
    assert_eq!((code, states(&job).as_str()), (1, "fpppppp"), "{job:#}");
    assert_eq!(job["steps"][0]["remedy"], json!("check that NTP works"));
    assert_eq!(provider.connections().len(), 0);
}

#[tokio::test]
async fn without_a_way_to_the_internet() {
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        println!("skipped: a network of its own needs the program of this machine");
        return;
    }
    let provider = provider(TlsMode::Implicit).start().await;
    let relay = relay_to(&provider).prepare();
    // In a network namespace of its own: there even the loopback interface is down.
    let mut alone = Command::new("unshare");
    alone.args(["--net", env!("CARGO_BIN_EXE_smtprelay"), "test", TO, "--config"]).arg(relay.config_path());
    let output = match alone.stdin(Stdio::null()).output() {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("unshare") => output,
        other => {
            println!("skipped: no network namespace here: {other:?}");
            return;
        }
    };
    let ran = Ran::of(output);
    assert_eq!(ran.code, 1, "{ran:?}");
    for part in [
        "✗ uplink: this router has no route to the internet (no default route)\n  → check the WAN connection of this router\n",
        "✗ tcp: no connection to 127.0.0.1",
    ] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
}

#[tokio::test]
async fn the_steps_are_shown_while_it_runs_and_one_at_a_time_is_enough() {
    let provider = provider(TlsMode::Implicit).start().await;
    let gate = Gate::closed();
    provider.set_fault(Step::Auth, Fault::Hold(gate.clone()), Times::First(1));
    let mut relay = relay_to(&provider).start().await;
    let mut first = relay.interactive(&["test", TO]);
    first.line(|line| line.starts_with("✓ tls: TLSv1.3")).await;
    provider.wait_for_line("*: at Auth", SOON).await;
    let second = run(&relay, &format!("test {TO}")).await;
    assert_eq!(second.code, 75, "{second:?}");
    assert!(second.err.contains("account 'gmail' is already being tested (job "), "{second:?}");
    gate.open();
    first.line(|line| line.starts_with("✓ accepted: ")).await;
    first.line(|line| line.starts_with("Account 'gmail' works")).await;
    // The end of the program does not wait for a test.
    provider.set_fault(Step::Auth, Fault::Hang, Times::Always);
    let mut hanging = relay.interactive(&["test", TO]);
    hanging.line(|line| line.starts_with("✓ tls: ")).await;
    relay.sigterm();
    assert!(relay.wait_exit().await.success());
}

#[tokio::test]
async fn a_good_test_ends_the_pause_of_its_account() {
    let provider = provider(TlsMode::Implicit).start().await;
    provider.set_fault(Step::Auth, Fault::Reply("535 5.7.8 no".into()), Times::First(1));
    let relay = relay_to(&provider).start().await;
    send(&relay, &["ops@example.com"], "alarm").await;
    relay.wait_log(|line| field(line, "event") == Some("paused"), SOON).await;
    let status = support::ask::json(&relay, "status").await;
    assert_eq!(status["state"], json!("paused"));
    let paused = &status["accounts"][0]["paused"];
    assert_eq!(paused["remedy"], json!("check username and password; many providers require an app password here"));
    // Its pause is a minute; the mail leaves at once.
    let mark = relay.mark();
    assert_eq!(run(&relay, &format!("test gmail {TO}")).await.code, 0);
    relay.wait_log_from(mark, |line| line.contains("event=resumed account=gmail"), SOON).await;
    let messages = provider.wait_for_messages(2, SOON).await;
    assert_eq!(messages[0].recipients, [TO]);
    assert_eq!(messages[1].recipients, ["ops@example.com"]);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_shown_so_that_its_owner_can_trust_it() {
    let provider = provider(TlsMode::Implicit).cert(Cert::UnknownCa).start().await;
    let mut relay = relay_to(&provider).start().await;
    let (code, job) = tested(&relay, &format!("test gmail {TO}")).await;
    assert_eq!(code, 1, "{job:#}");
    let seen = &job["certificate"];
    let fingerprint = seen["fingerprint"].as_str().expect("a fingerprint").to_string();
    assert_eq!((fingerprint.len(), fingerprint.matches(':').count()), (95, 31), "{seen}");
    assert!(seen["issuer"].is_string() && seen["expires"].is_i64(), "{seen}");
    let status = support::ask::json(&relay, "status").await;
    let failed = status["accounts"][0]["failed_test"]["text"].as_str().expect("the test that failed");
    assert!(failed.contains("is signed by an unknown authority"), "{failed}");
    relay.configure("account", "gmail", |section| section.option("fingerprint", &fingerprint));
    assert_eq!(run(&relay, "reload").await.code, 0);
    let (code, job) = tested(&relay, &format!("test gmail {TO}")).await;
    assert_eq!((code, &job["certificate"]), (0, &Value::Null), "{job:#}");
    status_until(&relay, |status| status["accounts"][0]["failed_test"].is_null()).await;
}

#[tokio::test]
async fn of_several_accounts_the_one_that_is_named_or_the_first() {
    let (one, two) = (provider(TlsMode::Implicit).start().await, provider(TlsMode::StartTls).start().await);
    let relay = Relay::builder()
        .section(Section::account("off", &one).option("enabled", "0"))
        .section(Section::account("special", &two).option("default", "0"))
        .section(Section::account("first", &one))
        .section(Section::account("second", &two))
        .start()
        .await;
    assert_eq!(run(&relay, &format!("test {TO}")).await.code, 0);
    assert_eq!((one.messages().len(), two.messages().len()), (1, 0));
    assert_eq!(run(&relay, &format!("test second {TO}")).await.code, 0);
    assert_eq!((one.messages().len(), two.messages().len()), (1, 1));
    for name in ["off", "third"] {
        let ran = run(&relay, &format!("test {name} {TO}")).await;
        let text =
            format!("smtprelay: no enabled account is named '{name}'; enabled accounts: special, first, second\n");
        assert_eq!((ran.code, ran.err), (64, text));
    }
    for (nonsense, code) in [
        ("test", 64),
        ("test first", 65),
        ("test a b c@d.e", 64),
        ("test first nobody", 65),
        ("test x@y.z --foreground", 64),
        ("status --verbose", 64),
    ] {
        assert_eq!(run(&relay, nonsense).await.code, code, "{nonsense}");
    }
}

#[tokio::test]
async fn while_the_gateway_does_not_run_the_command_does_it_itself() {
    let provider = provider(TlsMode::StartTls).start().await;
    let relay = relay_to(&provider).prepare();
    let ran = run(&relay, &format!("test gmail {TO}")).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.contains("✓ accepted: "), "{}", ran.out);
    assert_eq!(provider.messages().len(), 1);
    provider.set_fault(Step::Auth, Fault::Reply("535 5.7.8 no".into()), Times::Always);
    let (code, job) = tested(&relay, &format!("test {TO}")).await;
    assert_eq!((code, reached(&job).as_str()), (1, "ooooofp"), "{job:#}");
    is_clean(&job.to_string());
    assert_eq!(run(&relay, &format!("test nobody {TO}")).await.code, 64);
}

#[tokio::test]
async fn an_account_that_logs_in_with_a_token() {
    let certs = Certs::new();
    let login = LoginServer::start(&certs).await;
    let provider = Provider::builder().certs(&certs).tokens(TO, login.tokens()).start().await;
    let account = login.account(Section::account("acme", &provider)).option("timeout", "5s");
    let relay = Relay::builder().durability("memory").section(account).start().await;
    let (code, job) = tested(&relay, &format!("test {TO}")).await;
    assert_eq!((code, reached(&job).as_str()), (1, "ooooofp"), "{job:#}");
    assert_eq!(job["steps"][5]["remedy"], json!("run smtprelay login acme"), "{job:#}");
    let secret = async || support::ask::json(&relay, "status").await["accounts"][0]["secret"].clone();
    assert_eq!(secret().await, json!("missing"));
    login.approve();
    assert!(relay.command(&["login", "acme"]).await.status.success());
    assert_eq!(secret().await, json!("set"));
    let (code, job) = tested(&relay, &format!("test {TO}")).await;
    assert_eq!((code, reached(&job).as_str()), (0, "ooooooo"), "{job:#}");
    let transcript = job["transcript"].to_string();
    assert!(transcript.contains("> AUTH XOAUTH2 ********"), "{transcript}");
    for secret in login.secrets() {
        assert!(!job.to_string().contains(&secret), "{secret} in {job:#}");
    }
}

#[tokio::test]
async fn a_server_that_says_a_lot_or_repeats_the_login() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let provider = provider(TlsMode::Implicit).start().await;
    let echo = format!("535 5.7.8 {} {PASSWORD} is wrong", BASE64_STANDARD.encode(format!("\0plant\0{PASSWORD}")));
    provider.set_fault(Step::Auth, Fault::Reply(echo), Times::First(1));
    let relay = relay_to(&provider).start().await;
    let (_, job) = tested(&relay, &format!("test {TO}")).await;
    let transcript = job["transcript"].to_string();
    assert!(transcript.contains("< 535 5.7.8 ******** ******** is wrong"), "{transcript}");
    is_clean(&transcript);
    provider.set_fault(Step::Ehlo, Fault::FloodOfLines, Times::Always);
    let (code, job) = tested(&relay, &format!("test {TO}")).await;
    assert_eq!((code, reached(&job).as_str()), (1, "ooooofp"), "{job:#}");
    assert!(job["transcript"].as_array().unwrap().len() <= 160, "{job:#}");
    assert!(job.to_string().len() < 32 << 10);
}

#[tokio::test]
async fn the_presets_are_told_by_the_gateway_as_by_the_command() {
    let nowhere = Section::custom_account("nowhere", "127.0.0.1", 1, "none");
    let relay = Relay::builder().section(nowhere).start().await;
    let mut client = smtprelay::control::socket::ControlClient::connect(&relay.spool()).unwrap().expect("a gateway");
    let told = client.call("providers", json!({})).unwrap();
    assert_eq!(told["providers"], support::ask::json(&relay, "providers").await);
    assert_eq!(told["services"], support::ask::json(&relay, "services").await);
    assert_eq!(told["services"][0]["id"], json!("ntfy"));
    let refused = client.call("test", json!({ "to": TO, "account": "none" })).unwrap_err();
    assert_eq!(refused.kind, "not_found");
    assert_eq!(client.call("test", json!({})).unwrap_err().kind, "wrong");
    assert_eq!(client.call("job", json!({ "id": "NONE" })).unwrap_err().kind, "not_found");
}

/// Asks until the status fits.
async fn status_until(relay: &Relay, fits: impl Fn(&Value) -> bool) -> Value {
    let there = async {
        loop {
            let status = support::ask::json(relay, "status").await;
            if fits(&status) {
                return status;
            }
        }
    };
    tokio::time::timeout(SOON, there).await.expect("the status")
}

/// Also where no gateway is running, which would have made it visible.
#[tokio::test]
async fn a_reply_can_not_turn_lines_around() {
    let provider = provider(TlsMode::Implicit).start().await;
    provider.set_fault(Step::AnyRcpt, Fault::Reply("550 5.1.1 No such\u{202e}resu".into()), Times::Always);
    let relay = relay_to(&provider).prepare();
    for command in ["test", "test --verbose", "test --json"] {
        let ran = run(&relay, &format!("{command} {TO}")).await;
        assert!(ran.out.contains("No such<U+202E>resu") && !ran.out.contains('\u{202e}'), "{ran:?}");
    }
}

#[tokio::test]
async fn one_look_at_the_status_says_what_is_set_and_whether_it_works() {
    let provider = provider(TlsMode::Implicit).start().await;
    let open = Provider::builder().tls(TlsMode::None).start().await;
    let mut relay = relay_to(&provider).section(Section::account("inner", &open).option("default", "0")).start().await;
    let status = support::ask::json(&relay, "status").await;
    assert_eq!(
        status["accounts"][0],
        json!({
            "name": "gmail", "provider": "custom", "host": "127.0.0.1", "port": provider.port(), "tls_mode": "implicit",
            "from": "relay@provider.example", "username": "plant", "auth": "password", "secret": "set",
            "paused": null, "last": null, "failed_test": null,
        })
    );
    let inner = &status["accounts"][1];
    assert_eq!(
        (&inner["auth"], &inner["secret"], &inner["tls_mode"]),
        (&json!("none"), &json!("none"), &json!("none"))
    );
    assert_eq!((&status["state"], &status["last"]), (&json!("relaying"), &Value::Null));
    assert_eq!(status["today"], json!({ "accepted": 0, "delivered": 0, "failed": 0, "refused": 0 }));
    is_clean(&status.to_string());
    let text = support::ask::said(&relay, "status").await;
    let account =
        format!("account gmail: 127.0.0.1 port {}, tls implicit, login plant with a password\n", provider.port());
    assert!(text.contains(&account) && text.contains("no mail has been sent through it since the start"), "{text}");

    send(&relay, &["ops@example.com"], "alarm").await;
    let status = status_until(&relay, |status| !status["last"].is_null()).await;
    let last = &status["accounts"][0]["last"];
    assert_eq!(last, &status["last"]);
    assert_eq!((&last["to"], &last["account"]), (&json!("ops@example.com"), &json!("gmail")));
    assert_eq!((&last["tls"], &last["verified"]), (&json!("TLSv1.3"), &json!("yes")));
    // The end of 2049, by the certificate.
    assert_eq!(last["expires"], json!(2_524_521_600_i64));
    assert!(last["cipher"].as_str().unwrap().starts_with("TLS13_"), "{last}");
    assert_eq!((&status["today"]["accepted"], &status["today"]["delivered"]), (&json!(1), &json!(1)));
    assert_eq!(status["accounts"][1]["last"], Value::Null);
    assert_eq!(run(&relay, &format!("test inner {TO}")).await.code, 0);
    let status = status_until(&relay, |status| !status["accounts"][1]["last"].is_null()).await;
    assert_eq!(status["accounts"][1]["last"]["tls"], json!("none"));
    // It outlives a restart; a test does not.
    relay.restart().await;
    let status = support::ask::json(&relay, "status").await;
    assert_eq!(status["last"]["expires"], json!(2_524_521_600_i64));
    let text = support::ask::said(&relay, "status").await;
    // In local time, which may be the next year already.
    let valid = [", certificate verified, valid until 2049-12-31 ", ", certificate verified, valid until 2050-01-01 "];
    // On 32 bits the C library knows no local time after January 2038.
    let valid = valid.into_iter().chain([
        ", certificate verified, valid until 2049-12-30 ",
        ", certificate verified, valid until Fri, 31 Dec 2049 00:00:00 +0000",
    ]);
    assert!(valid.into_iter().any(|part| text.contains(part)), "{text}");
    assert!(text.contains("today (UTC): 1 accepted, 1 delivered, 0 failed, 0 refused\n"), "{text}");
    // Trouble stands there with what to do.
    provider.set_fault(Step::Auth, Fault::Reply("535 5.7.139 basic authentication is disabled".into()), Times::Always);
    relay.configure("account", "inner", |section| section.option("enabled", "0"));
    relay.restart().await;
    send(&relay, &["ops@example.com"], "alarm").await;
    let status = status_until(&relay, |status| status["state"] == "paused").await;
    let remedy = &status["accounts"][0]["paused"]["remedy"];
    assert!(
        remedy.as_str().unwrap().contains("set auth 'xoauth2'") && remedy.as_str().unwrap().contains("smtprelay login")
    );
    let text = support::ask::said(&relay, "status").await;
    assert!(text.starts_with("Not relaying, 1 message waiting, next attempt in "), "{text}");
    assert!(text.contains("  PAUSED for ") && text.contains("sign in with smtprelay login"), "{text}");
}
