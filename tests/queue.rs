// SPDX-License-Identifier: Apache-2.0
//! The queue on the command line: what is shown, what can be done, with which exit codes; while the gateway runs and
//! while it does not.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::ask::{Ran, SOON, fields, hello, json, queue, queue_until, run, said, send, send_on};
use support::disk::{files, wait_for_files};
use support::provider::{Fault, Gate, Provider, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::TimeWarp;

const TO: [&str; 1] = ["ops@example.com"];
const HOUR: Duration = Duration::from_secs(3600);
/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;

async fn provider() -> Provider {
    Provider::builder().tls(TlsMode::None).start().await
}

fn relay_to(provider: &Provider) -> RelayBuilder {
    let account = Section::account("provider", provider).option("from_policy", "keep");
    Relay::builder().relay_option("hostname", "gw.example").section(account)
}

/// A gateway with a message of which nothing is known yet, or that is not tried for a while.
async fn with_one_waiting() -> (Provider, Relay, String) {
    let provider = provider().await;
    provider.stop().await;
    let relay = relay_to(&provider).start().await;
    let id = send(&relay, &TO, "alarm").await;
    queue_until(&relay, |messages| messages[0]["standing"] != "sending").await;
    (provider, relay, id)
}

#[tokio::test]
async fn a_message_that_waits_is_described_whether_the_gateway_runs_or_not() {
    let provider = provider().await;
    provider.set_fault(
        Step::Rcpt("late@example.com".into()),
        Fault::Reply("451 4.2.1 Mailbox busy".into()),
        Times::Always,
    );
    provider.set_fault(
        Step::Rcpt("gone@example.com".into()),
        Fault::Reply("550 5.1.1 No such user".into()),
        Times::Always,
    );
    let mut relay = relay_to(&provider).start().await;
    let id = send(&relay, &["now@example.com", "late@example.com", "gone@example.com"], "three").await;
    // The notice about gone@ leaves the queue as well.
    let messages = queue_until(&relay, |all| all.len() == 1 && all[0]["standing"] == "later").await;
    let message = &messages[0];
    assert_eq!(
        fields(message),
        [
            "accounts",
            "age",
            "arrived",
            "attempts",
            "client",
            "device",
            "doubts",
            "from",
            "held",
            "id",
            "next",
            "notice",
            "recipients",
            "section",
            "size",
            "standing",
            "subject",
            "why"
        ]
    );
    assert_eq!(
        (
            &message["id"],
            &message["client"],
            &message["from"],
            &message["attempts"],
            &message["held"],
            &message["notice"]
        ),
        (&json!(id), &json!("127.0.0.1"), &json!("plc@example.com"), &json!(1), &json!(false), &json!(false))
    );
    let states: Vec<_> =
        message["recipients"].as_array().unwrap().iter().map(|r| (&r["address"], &r["state"])).collect();
    assert_eq!(
        states,
        [
            (&json!("now@example.com"), &json!("delivered")),
            (&json!("late@example.com"), &json!("waiting")),
            (&json!("gone@example.com"), &json!("failed"))
        ]
    );
    let why = message["why"].as_str().unwrap();
    assert!(why.contains("Mailbox busy"), "{why}");
    assert!(message["recipients"][2]["reply"].as_str().unwrap().contains("No such user"), "{message}");
    let next = message["next"].as_u64().unwrap();
    assert!((1..=3600).contains(&next), "{message}");

    let text = said(&relay, "queue").await;
    println!("{text}");
    for part in [
        &format!("\n{id}  "),
        "<plc@example.com>  127.0.0.1  ",
        "  <now@example.com>   delivered  ",
        "  <late@example.com>  waiting    in ",
        "  <gone@example.com>  failed     ",
        "\n[2] ",
        "Mailbox busy",
        "No such user",
        "1 message waiting\nRelaying; 1 message waiting.\n",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }

    let shown = said(&relay, &format!("queue show {}", id.to_lowercase())).await;
    println!("{shown}");
    for part in [
        "sender <plc@example.com>",
        "\nHistory:\n",
        " tried\n",
        "    <late@example.com> waiting: ",
        "\nSubject: three\n",
        "\nReceived: from plc",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
    let whole = json(&relay, &format!("queue show {id}")).await;
    assert_eq!(
        fields(&whole),
        [
            "accounts",
            "age",
            "arrived",
            "attempts",
            "client",
            "device",
            "doubts",
            "from",
            "header",
            "held",
            "history",
            "id",
            "next",
            "notice",
            "recipients",
            "section",
            "size",
            "standing",
            "subject",
            "why"
        ]
    );
    assert_eq!(
        (&whole["history"][0]["what"], whole["history"][0]["results"].as_array().unwrap().len()),
        (&json!("tried"), 3)
    );

    relay.sigterm();
    relay.wait_exit().await;
    let stopped = queue(&relay).await;
    assert_eq!(stopped.len(), 1);
    assert_eq!(
        fields(&stopped[0]),
        [
            "age",
            "arrived",
            "attempts",
            "client",
            "doubts",
            "from",
            "held",
            "id",
            "notice",
            "recipients",
            "section",
            "size",
            "subject",
            "why"
        ]
    );
    for name in ["id", "arrived", "attempts", "client", "from", "held", "notice", "recipients", "why"] {
        assert_eq!(stopped[0][name], message[name], "{name}");
    }
    let text = said(&relay, "queue").await;
    assert!(
        text.contains("<late@example.com>  waiting")
            && text.ends_with("1 message waiting\nThe gateway is not running.\n"),
        "{text}"
    );
}

#[tokio::test]
async fn exit_codes_are_those_that_help_names() {
    let (provider, mut relay, id) = with_one_waiting().await;
    let code = async |command: String| (run(&relay, &command).await.code, command);
    // While it runs.
    for command in [
        "queue",
        "queue list",
        "status",
        "status --json",
        "history",
        "history --json",
        "devices",
        "devices --json",
        "wake",
        "wake ifup",
    ] {
        // Whether mail is relayed is what status says, and its exit code.
        let relays = || async { json(&relay, "status").await["state"] == "relaying" };
        let wanted = i32::from(command.starts_with("status") && !relays().await);
        assert_eq!(code(command.into()).await, (wanted, command.to_string()));
    }
    for method in ["show", "retry", "hold", "release", "delete"] {
        for (id, wanted) in [("0000000000", 66), ("nonsense!!", 64), ("", 64)] {
            let ran = run(&relay, &format!("queue {method} {id}")).await;
            assert_eq!(ran.code, wanted, "{method} {id}: {ran:?}");
            assert!(ran.out.is_empty() && ran.err.starts_with("smtprelay: ") && ran.err.ends_with('\n'), "{ran:?}");
        }
        let ran = run(&relay, &format!("queue {method}")).await;
        assert_eq!(ran.code, 64, "{method}: {ran:?}");
        assert!(ran.err.contains("requires a message ID"), "{ran:?}");
    }
    for nonsense in ["queue dance", "queue show all", "queue hold", "history now", "status --yaml", "wake a b"] {
        assert_eq!(code(nonsense.into()).await.0, 64, "{nonsense}");
    }
    for (method, done) in [("retry", "attempted now"), ("hold", "held"), ("release", "released")] {
        let said = said(&relay, &format!("queue {method} {}", id.to_lowercase())).await;
        assert_eq!(said, format!("1 message {done}\n"));
        queue_until(&relay, |messages| messages[0]["standing"] != "sending").await;
    }
    // What is so already can't be done once more, and says so.
    let ran = run(&relay, &format!("queue release {id}")).await;
    assert_eq!((ran.code, ran.err), (66, format!("smtprelay: message {id} is not held\n")));
    said(&relay, &format!("queue hold {id}")).await;
    let ran = run(&relay, &format!("queue hold {id}")).await;
    assert_eq!((ran.code, ran.err), (66, format!("smtprelay: message {id} is already held\n")));
    let ran = run(&relay, &format!("queue retry {id}")).await;
    assert!(ran.code == 66 && ran.err.contains(&format!("{id} is held: release it with")), "{ran:?}");
    assert!(said(&relay, "queue retry all").await.starts_with("0 messages attempted now, 1 on hold"));
    assert_eq!(said(&relay, "queue hold all").await, "0 messages held, 1 already held\n");
    let done = json(&relay, "queue release all").await;
    assert_eq!((&done["count"], &done["already"]), (&json!(1), &json!(0)), "{done}");
    // While it does not run: the queue can be listed, and there is nothing to wake.
    relay.sigterm();
    relay.wait_exit().await;
    for (command, wanted) in [
        ("queue".to_string(), 0),
        ("wake".to_string(), 0),
        ("status".to_string(), 69),
        ("history".to_string(), 69),
        ("devices".to_string(), 69),
        (format!("queue show {id}"), 69),
        (format!("queue retry {id}"), 69),
        ("queue delete all".to_string(), 69),
    ] {
        let ran = run(&relay, &command).await;
        assert_eq!(ran.code, wanted, "{command}: {ran:?}");
        assert_eq!(ran.err.contains("the gateway is not running"), wanted == 69, "{command}: {ran:?}");
    }
    // Settings that can't be read.
    relay.configure("relay", "main", |section| section.option("durability", "never"));
    assert_eq!(run(&relay, "queue").await.code, 1);
    drop(provider);
}

#[tokio::test]
async fn a_message_that_is_being_sent_is_left_alone() {
    let provider = provider().await;
    let gate = Gate::closed();
    provider.set_fault(Step::Dot, Fault::Hold(gate.clone()), Times::First(1));
    let relay = relay_to(&provider).start().await;
    let id = send(&relay, &TO, "alarm").await;
    provider.wait_for_line("*: at Dot", SOON).await;
    // That is what happens, and if it fails it happens again.
    assert_eq!(said(&relay, &format!("queue retry {id}")).await, "1 message attempted now\n");
    for method in ["hold", "release", "delete"] {
        let ran = run(&relay, &format!("queue {method} {id}")).await;
        assert_eq!((ran.code, ran.out.as_str()), (75, ""), "{method}: {ran:?}");
        assert!(ran.err.contains(&id) && ran.err.contains("is being sent right now"), "{ran:?}");
    }
    assert_eq!(said(&relay, "queue delete all").await, "0 messages deleted, 1 being sent right now\n");
    let messages = queue(&relay).await;
    assert_eq!(
        (&messages[0]["standing"], &messages[0]["why"]),
        (&json!("sending"), &json!("it is being sent right now"))
    );
    assert!(said(&relay, "queue").await.contains("it is being sent right now"));
    gate.open();
    relay.wait_log(|line| field(line, "event") == Some("removed"), SOON).await;
    assert_eq!(said(&relay, "queue").await, "Mail queue is empty\n");
    assert_eq!(provider.messages().len(), 1);
}

#[tokio::test]
async fn a_held_message_stays_through_everything_until_it_is_released() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = provider().await;
    provider.stop().await;
    let builder = relay_to(&provider).durability("deferred").relay_option("retry_for", "1h");
    let mut relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    let (id, other) = (send(&relay, &TO, "held").await, send(&relay, &TO, "other").await);
    queue_until(&relay, |all| all.iter().all(|message| message["standing"] != "sending")).await;
    assert_eq!(said(&relay, &format!("queue hold {id}")).await, "1 message held\n");
    let status = json(&relay, "status").await;
    assert_eq!((&status["queue"]["messages"], &status["queue"]["held"]), (&json!(2), &json!(1)), "{status}");
    // It is moved to safety like any other.
    time.advance(Duration::from_secs(120), Duration::ZERO).await;
    assert_eq!((files(&relay.spool()).len(), files(&relay.safe_spool()).len()), (0, 2));
    let is_held = |all: &[Value]| {
        all.iter().find(|message| message["id"] == json!(id)).is_some_and(|one| {
            (one["standing"].clone(), one["held"].clone(), one["attempts"].clone())
                == (json!("held"), json!(true), json!(0))
        })
    };
    assert!(is_held(&queue(&relay).await));
    relay.restart().await;
    time.rule(&relay);
    queue_until(&relay, is_held).await;
    // All that could try it or give it up.
    provider.restart().await;
    for command in ["queue retry all", "wake"] {
        said(&relay, command).await;
    }
    assert_eq!(run(&relay, &format!("queue retry {id}")).await.code, 66);
    relay.sighup();
    provider.wait_for_messages(1, SOON).await;
    time.advance(3 * HOUR, Duration::from_millis(20)).await;
    assert!(is_held(&queue(&relay).await));
    relay.kill9();
    relay.restart().await;
    time.rule(&relay);
    queue_until(&relay, is_held).await;
    let text = said(&relay, "queue").await;
    assert!(text.contains("it is held: release it with smtprelay queue release"), "{text}");
    assert_eq!(provider.messages().len(), 1, "only the other one");
    assert!(
        relay.log().iter().any(|line| field(line, "event") == Some("removed") && field(line, "id") == Some(&other))
    );
    assert_eq!(said(&relay, &format!("queue release {id}")).await, "1 message released\n");
    let messages = provider.wait_for_messages(2, SOON).await;
    assert_eq!(messages[1].header("Subject").as_deref(), Some("held"));
    wait_for_files(&relay.safe_spool(), 0).await;
    assert!(!relay.log().iter().any(|line| field(line, "event") == Some("failed")));
}

#[tokio::test]
async fn a_message_that_was_held_for_long_is_tried_as_long_as_a_new_one() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = provider().await;
    provider.set_fault(Step::Rcpt(TO[0].into()), Fault::Reply("450 4.2.0 later".into()), Times::Always);
    let builder =
        relay_to(&provider).durability("always").relay_option("retry_for", "1h").relay_option("delay_notice", "5m");
    let builder = builder.relay_option("admin", "admin@example.com");
    let mut relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    let id = send(&relay, &TO, "held").await;
    queue_until(&relay, |all| all.iter().all(|message| message["standing"] == "later")).await;
    said(&relay, &format!("queue hold {id}")).await;
    time.advance(3 * HOUR, Duration::from_millis(20)).await;
    said(&relay, &format!("queue release {id}")).await;
    // Also by the sender's notification of the delay, and across a restart.
    time.advance(HOUR / 2, Duration::from_millis(20)).await;
    let report = provider.wait_for_messages(1, SOON).await[0].text();
    assert!(report.contains("Will-Retry-Until: Mon, 01 Mar 2027 16:0"), "{report}");
    relay.restart().await;
    time.rule(&relay);
    time.advance(HOUR / 3, Duration::from_millis(20)).await;
    assert_eq!(queue(&relay).await.len(), 1);
    assert!(!relay.log().iter().any(|line| field(line, "event") == Some("failed")));
    time.advance(HOUR / 4, Duration::from_millis(20)).await;
    relay.wait_log(|line| field(line, "event") == Some("failed"), SOON).await;
}

/// The list never says that the queue is empty because it has not been read yet.
#[tokio::test]
async fn the_list_is_complete_from_the_first_moment_on() {
    const COUNT: usize = 300;
    let (_provider, mut relay, _) = with_one_waiting().await;
    let mut device = hello(&relay).await;
    for n in 1..COUNT {
        send_on(&mut device, &TO, &n.to_string()).await;
    }
    for _ in 0..3 {
        relay.kill9();
        relay.restart().await;
        assert_eq!(queue(&relay).await.len(), COUNT);
    }
}

#[tokio::test]
async fn what_is_deleted_leaves_no_file_and_no_notice() {
    let (provider, relay, id) = with_one_waiting().await;
    let mut device = hello(&relay).await;
    for n in 0..5 {
        send_on(&mut device, &TO, &n.to_string()).await;
    }
    queue_until(&relay, |all| all.iter().all(|message| message["standing"] != "sending")).await;
    assert_eq!(files(&relay.spool()).len(), 6);
    assert_eq!(said(&relay, &format!("queue delete {id}")).await, "1 message deleted\n");
    assert_eq!(run(&relay, &format!("queue show {id}")).await.code, 66);
    assert_eq!(files(&relay.spool()).len(), 5);
    assert_eq!(json(&relay, "status").await["queue"]["messages"], json!(5));
    assert_eq!(said(&relay, "queue delete all").await, "5 messages deleted\n");
    assert_eq!(files(&relay.spool()), Vec::<String>::new());
    assert_eq!(said(&relay, "queue").await, "Mail queue is empty\n");
    assert_eq!(json(&relay, "queue").await, json!([]));
    let status = json(&relay, "status").await;
    assert_eq!((&status["queue"]["messages"], &status["queue"]["bytes"]), (&json!(0), &json!(0)), "{status}");
    // What comes after it is the first that arrives.
    provider.restart().await;
    send_on(&mut device, &TO, "after").await;
    said(&relay, "wake").await;
    let messages = provider.wait_for_messages(1, SOON).await;
    assert_eq!(messages[0].header("Subject").as_deref(), Some("after"));
    assert!(!relay.log().iter().any(|line| matches!(field(line, "event"), Some("notified" | "failed"))));
}

#[tokio::test]
async fn an_account_in_trouble_says_why_everywhere() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "right").start().await;
    let account = Section::account("provider", &provider).option("password", "wrong");
    let relay = Relay::builder().section(account).start().await;
    let id = send(&relay, &TO, "alarm").await;
    relay.wait_log(|line| field(line, "event") == Some("paused"), SOON).await;
    let messages = queue_until(&relay, |all| all[0]["standing"] != "sending").await;
    let status = json(&relay, "status").await;
    for field in [
        "accounts",
        "clock",
        "counters",
        "health",
        "last",
        "power_cut",
        "queue",
        "running",
        "safe_spool",
        "state",
        "today",
        "version",
    ] {
        assert!(fields(&status).contains(&field), "{field}: {status}");
    }
    let reason = status["accounts"][0]["paused"]["reason"].as_str().unwrap();
    assert!(reason.contains("password") || reason.contains("login"), "{reason}");
    assert_eq!(messages[0]["why"], json!(reason));
    assert!((1..=60).contains(&status["accounts"][0]["paused"]["next"].as_u64().unwrap()), "{status}");
    assert!(
        status["health"].as_str().unwrap().starts_with("Not relaying, 1 message waiting, next attempt in "),
        "{status}"
    );
    for command in ["queue".to_string(), format!("queue show {id}"), "status".to_string()] {
        assert!(said(&relay, &command).await.contains(reason), "{command}");
    }
    assert!(!said(&relay, "status").await.contains("wrong"));
}

#[tokio::test]
async fn hundreds_of_messages_are_listed_whole_and_in_order() {
    const COUNT: usize = 450;
    let provider = provider().await;
    provider.stop().await;
    let mut relay = relay_to(&provider).durability("memory").start().await;
    let mut device = hello(&relay).await;
    let mut sent = Vec::new();
    for n in 0..COUNT {
        sent.push(send_on(&mut device, &TO, &n.to_string()).await);
    }
    drop(device);
    sent.sort_unstable();
    for runs in [true, false] {
        let listed = queue(&relay).await;
        let mut names: Vec<&str> = listed.iter().map(|message| message["id"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, sent, "each once");
        let times: Vec<i64> = listed.iter().map(|message| message["arrived"].as_i64().unwrap()).collect();
        assert!(times.is_sorted(), "{times:?}");
        let text = said(&relay, "queue").await;
        assert!(text.contains(&format!("\n{COUNT} messages waiting\n")), "{text}");
        if runs {
            relay.sigterm();
            relay.wait_exit().await;
        }
    }
}

#[tokio::test]
async fn it_answers_to_the_names_of_other_mail_servers() {
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        println!("skipped: an emulator has a name of its own");
        return;
    }
    let (provider, relay, id) = with_one_waiting().await;
    let program = std::env::var_os("SMTPRELAY_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_smtprelay").into());
    let run_as = |name: &str, arguments: &[&str]| {
        let link = relay.dir().join(name);
        std::os::unix::fs::symlink(Path::new(&program), &link).unwrap();
        let output = Command::new(&link).args(arguments).arg("--config").arg(relay.config_path()).output().unwrap();
        std::fs::remove_file(link).unwrap();
        Ran::of(output)
    };
    for (name, arguments) in [("mailq", &[][..]), ("sendmail", &["-bp"]), ("postqueue", &["-p"])] {
        let ran = run_as(name, arguments);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains(&id) && ran.out.contains("1 message waiting\n"), "{name}: {}", ran.out);
    }
    let printed = run_as("postqueue", &["-j"]).out;
    assert_eq!(printed.matches('\n').count(), 1, "one object a line: {printed}");
    let listed: Value = serde_json::from_str(&printed).unwrap();
    // What postqueue(1) of Postfix 3.7 documents.
    assert_eq!(
        fields(&listed),
        ["arrival_time", "forced_expire", "message_size", "queue_id", "queue_name", "recipients", "sender"]
    );
    assert_eq!((&listed["queue_id"], &listed["queue_name"]), (&json!(id), &json!("deferred")));
    assert!(listed["recipients"][0]["delay_reason"].is_string(), "{listed}");
    assert_eq!(run_as("postqueue", &[]).code, 64);
    assert_eq!(run_as("postqueue", &["-i", "0000000000"]).code, 66);
    provider.restart().await;
    let ran = run_as("postqueue", &["-i", &id]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "1 message attempted now\n"), "{ran:?}");
    provider.wait_for_messages(1, SOON).await;
    provider.stop().await;
    let second = send(&relay, &TO, "second").await;
    queue_until(&relay, |all| all.iter().any(|m| m["id"] == json!(second) && m["standing"] != "sending")).await;
    provider.restart().await;
    assert_eq!(run_as("postqueue", &["-f"]).code, 0);
    provider.wait_for_messages(2, SOON).await;
}

/// What a device writes as its subject must not move the cursor of a terminal, begin a line of its own, or look like a
/// column; and nobody who has switched subjects off may find one.
#[tokio::test]
async fn a_subject_is_listed_in_one_harmless_line_and_not_at_all_if_that_is_wanted() {
    let provider = provider().await;
    provider.stop().await;
    let pump = Section::new("device", "pump").option("name", "Pump house").list("ip", "127.0.0.1");
    let mut relay = relay_to(&provider).section(pump).start().await;
    let hostile = "=?utf-8?Q?St=C3=B6rung_=1B[2J=0D=0Aevent=3Ddelivered_=E2=80=AE_=22x=22_and_so_on_and_on?=";
    let id = send(&relay, &TO, hostile).await;
    queue_until(&relay, |messages| messages[0]["standing"] != "sending").await;
    let shown = "Störung  [2J  event=delivered   \"x\" and so on and on";
    assert_eq!(queue(&relay).await[0]["subject"], json!(shown));
    let line = relay.wait_log(|line| line.contains("event=accepted"), SOON).await;
    assert!(line.contains(" client=127.0.0.1 device=\"Pump house\" "), "{line}");
    assert!(line.contains(&format!(" subject=\"{}\"", shown.replace('"', "'"))), "{line}");
    let text = said(&relay, "queue").await;
    println!("{text}");
    assert!(text.lines().next().unwrap().ends_with("  SUBJECT"), "{text}");
    let row = text.lines().find(|line| line.starts_with(&id)).expect("the message");
    let cut: String = shown.chars().take(40).collect();
    assert!(row.contains("  Pump house (127.0.0.1)  ") && row.ends_with(&format!("  {}…", cut.trim_end())), "{row}");
    assert!(said(&relay, &format!("queue show {id}")).await.contains("from device Pump house (127.0.0.1)\n"));

    relay.configure("relay", "main", |section| section.option("log_subject", "0"));
    // With a warning that the stand-in speaks no TLS.
    assert_eq!(run(&relay, "reload").await.code, 0);
    assert_eq!(queue(&relay).await[0]["subject"], json!(""));
    let text = said(&relay, "queue").await;
    assert!(text.contains(&id) && !text.contains("SUBJECT") && !text.contains("rung"), "{text}");
    // The message itself is shown as it is.
    assert!(said(&relay, &format!("queue show {id}")).await.contains("\nSubject: =?utf-8?Q?St=C3=B6rung"));
    let mark = relay.mark();
    send(&relay, &TO, "secret").await;
    let line = relay.wait_log_from(mark, |line| line.contains("event=accepted"), SOON).await;
    assert!(!line.contains("subject="), "{line}");

    // The list of files.
    relay.sigterm();
    relay.wait_exit().await;
    let of_first = async |relay: &Relay| {
        let listed = queue(relay).await;
        listed.iter().find(|message| message["id"] == json!(id)).expect("the first message")["subject"].clone()
    };
    assert_eq!(of_first(&relay).await, json!(""));
    relay.configure("relay", "main", |section| section.option("log_subject", "1"));
    assert_eq!(of_first(&relay).await, json!(shown));
}
