// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;

use super::*;
use crate::report::TlsFacts;

const NOW: i64 = 1_800_000_000;

fn accepted(id: &str, client: &str) -> Event {
    Event::Accepted {
        id: id.into(),
        client: client.into(),
        helo: "plc".into(),
        device: None,
        title: String::new(),
        login: None,
        tls: None,
        from: "plc@example.com".into(),
        to: vec!["a@example.com".into(), "b@example.com".into()],
        size: 500,
        subject: "Pump 3 stopped".into(),
        repairs: vec![],
    }
}

fn delivered(id: &str, client: &str, reply: &str) -> Event {
    Event::Delivered {
        id: id.into(),
        client: client.into(),
        from: "plc@example.com".into(),
        to: "a@example.com".into(),
        size: 700,
        subject: "Pump 3 stopped".into(),
        account: "gmail".into(),
        tls: Some(TlsFacts { version: "TLSv1.3".into(), cipher: "AES".into(), verified: "yes", expires: None }),
        reply: reply.into(),
        delay: 3,
    }
}

fn failed(id: &str, client: &str) -> Event {
    Event::Failed {
        id: id.into(),
        client: client.into(),
        from: "plc@example.com".into(),
        to: "b@example.com".into(),
        size: 700,
        subject: "Pump 3 stopped".into(),
        account: "gmail".into(),
        tls: None,
        reason: "550 no".into(),
        delay: 4,
    }
}

fn refused(client: &str) -> Event {
    Event::Refused { client: client.into(), reason: "not in list allow".into() }
}

#[test]
fn the_last_mail_of_an_account_is_told_tests_count_and_so_does_the_day() {
    let mut history = History::default();
    assert_eq!((history.last(None), history.today(NOW)["delivered"].clone()), (Value::Null, 0.into()));
    let delivered_by = |account: &str, expires| match delivered("ID1", "10.0.0.7", "250 ok") {
        Event::Delivered { id, client, from, to, size, subject, reply, delay, .. } => {
            let tls = TlsFacts {
                version: "TLSv1.2".into(),
                cipher: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256".into(),
                verified: "fingerprint",
                expires,
            };
            Event::Delivered {
                id,
                client,
                from,
                to,
                size,
                subject,
                account: account.into(),
                tls: Some(tls),
                reply,
                delay,
            }
        }
        other => other,
    };
    history.take(NOW, &delivered_by("one", Some(NOW + 100)));
    history.take(NOW + 1, &delivered_by("two", None));
    let expected = json!({
        "time": NOW, "to": "a@example.com", "account": "one", "tls": "TLSv1.2",
        "cipher": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "verified": "fingerprint", "expires": NOW + 100,
    });
    assert_eq!(history.last(Some("one")), expected);
    assert_eq!(history.last(None)["account"], "two");
    assert_eq!(history.last(Some("three")), Value::Null);
    // It survives a restart.
    assert_eq!(History::decode(&history.encode()).last(Some("one")), expected);
    let tested = |failed: Option<&str>| Event::Tested {
        account: "one".into(),
        to: "me@example.com".into(),
        tls: Some(TlsFacts { version: "none".into(), verified: "no", ..TlsFacts::default() }),
        failed: failed.map(str::to_string),
    };
    history.take(NOW + 2, &tested(Some("no")));
    assert_eq!(history.last(Some("one")), expected);
    (0..20).for_each(|_| history.take(NOW + 3, &tested(None)));
    let last = history.last(Some("one"));
    assert_eq!(
        (&last["to"], &last["tls"], &last["verified"]),
        (&json!("me@example.com"), &json!("none"), &json!("no"))
    );
    // The last failed and the last successful one.
    assert_eq!(history.tests.len(), 2);
    assert_eq!(history.failed_test("one"), Value::Null);
    history.take(NOW + 4, &tested(Some("the login was refused")));
    assert_eq!(history.failed_test("one"), json!({ "time": NOW + 4, "text": "the login was refused" }));
    assert_eq!(history.failed_test("two"), Value::Null);
    assert_eq!(history.last(Some("one")), last, "a failed test delivers nothing");
    // A test is not mail of a device.
    assert_eq!(history.today(NOW)["delivered"], 2);
    assert_eq!(history.today(NOW + DAY)["delivered"], 0);
}

#[test]
fn only_what_is_new_is_told() {
    let mut history = History::default();
    let numbers = |found: &[Value]| found.iter().map(|entry| entry["number"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(history.news(0, 10), (vec![], 0, false));
    (1..=3).for_each(|n| history.take(NOW, &delivered(&format!("ID{n}"), "10.0.0.7", "ok")));
    let (first, next, more) = history.news(0, 2);
    assert_eq!((numbers(&first), next, more), (vec![1, 2], 2, true));
    let (rest, next, more) = history.news(next, 2);
    assert_eq!((numbers(&rest), next, more), (vec![2, 3], 3, false), "the last one may have changed");
    // A repetition changes the last one.
    let refused = || Event::Refused { client: "10.0.0.9".into(), reason: "no".into() };
    (0..5).for_each(|_| history.take(NOW, &refused()));
    let (found, next, _) = history.news(next, 10);
    assert_eq!((numbers(&found), next, &found[1]["times"]), (vec![3, 4], 4, &json!(5)));
    // After a restart the numbers start again.
    assert_eq!(numbers(&History::decode(&history.encode()).news(0, 10).0), [1, 2, 3, 4]);
}

#[test]
fn a_device_keeps_its_section() {
    let mut history = History::default();
    let Event::Accepted { id, client, helo, title, login, tls, from, to, size, subject, repairs, .. } =
        accepted("ID1", "10.0.0.7")
    else {
        panic!()
    };
    let device = Some("pump".into());
    history
        .take(NOW, &Event::Accepted { id, client, helo, device, title, login, tls, from, to, size, subject, repairs });
    history.take(NOW, &accepted("ID2", "10.0.0.8"));
    let sections = ["pump", "", ""];
    assert_eq!(history.sections(&["10.0.0.7", "10.0.0.8", "10.0.0.9"]), sections);
    let back = History::decode(&history.encode());
    assert_eq!(back.sections(&["10.0.0.7", "10.0.0.8", "10.0.0.9"]), sections);
    // The file of an earlier version has none.
    let file = String::from_utf8(history.encode()).unwrap();
    let lines = file.split_once('\n').unwrap().1.replace(",\"pump\"]", "]");
    let sum = crate::system::checksum::Checksum::of(lines.as_bytes());
    let older = History::decode(format!("smtprelay-history 1 {sum:08x}\n{lines}").as_bytes());
    assert_eq!(older.sections(&["10.0.0.7"]), [""]);
    assert_eq!(older.devices()[1]["accepted"], json!(1));
}

#[test]
fn verdicts_devices_and_counters_tell_the_same_story() {
    let mut history = History::default();
    history.take(NOW, &Event::Started { version: "1" });
    history.take(NOW + 1, &accepted("ID1", "10.0.0.7"));
    let reason = "451 later".to_string();
    let (to, account, next) = ("a@example.com".into(), "gmail".into(), Duration::from_secs(30));
    history.take(NOW + 2, &Event::Deferred { id: "ID1".into(), to, account, tls: None, reason, next, planned: false });
    let device = &history.devices()[0];
    assert_eq!(device["last_verdict"], json!({"outcome": "deferred", "text": "451 later", "time": NOW + 2}));
    assert_eq!(history.entries(0, 10)["total"], 0);

    history.take(NOW + 3, &delivered("ID1", "10.0.0.7", "250 2.0.0 ok"));
    history.take(NOW + 4, &failed("ID1", "10.0.0.7"));
    let newest = &history.entries(0, 1)["entries"][0];
    assert_eq!(
        (&newest["outcome"], &newest["to"], &newest["text"]),
        (&json!("failed"), &json!("b@example.com"), &json!("550 no"))
    );
    let older = &history.entries(1, 1)["entries"][0];
    assert_eq!(
        *older,
        json!({
            "number": 1, "time": NOW + 3, "outcome": "delivered", "id": "ID1", "client": "10.0.0.7", "from": "plc@example.com",
            "subject": "Pump 3 stopped",
            "to": "a@example.com", "size": 700, "account": "gmail", "tls": "TLSv1.3", "cipher": "AES", "verified": "yes",
            "text": "250 2.0.0 ok", "delay": 3, "times": 1
        })
    );
    assert_eq!(
        history.devices()[0],
        json!({
            "client": "10.0.0.7", "helo": "plc", "section": "", "first_seen": NOW + 1, "last_seen": NOW + 1,
            "accepted": 1, "delivered": 1, "failed": 1, "refused": 0,
            "last_mail": {"id": "ID1", "from": "plc@example.com", "to": "a@example.com and 1 more", "time": NOW + 1},
            "last_verdict": {"outcome": "failed", "text": "550 no", "time": NOW + 4}
        })
    );
    let counts = json!({"accepted": 1, "delivered": 1, "failed": 1, "refused": 0});
    let counters = history.counters(&["gmail"], &["plc"]);
    assert_eq!(counters["since"], NOW);
    for (name, count) in counts.as_object().unwrap() {
        assert_eq!(counters[name], *count);
        assert_eq!(counters["days"][0][name], *count);
    }
    assert_eq!(counters["days"][0]["day"], NOW - NOW % 86_400);
    assert_eq!(history.entries(9, 10)["entries"], json!([]));
}

#[test]
fn the_ring_keeps_the_last_200() {
    let mut history = History::default();
    (0..500).for_each(|n| history.take(NOW + n, &delivered(&format!("ID{n}"), "10.0.0.7", "250 ok")));
    let all = history.entries(0, usize::MAX);
    assert_eq!(all["total"], 200);
    assert_eq!((&all["entries"][0]["id"], &all["entries"][199]["id"]), (&json!("ID499"), &json!("ID300")));
    assert_eq!(history.counters(&["gmail"], &["plc"])["delivered"], 500);
}

#[test]
fn what_repeats_is_counted_and_pushes_nothing_out() {
    let mut history = History::default();
    history.take(NOW, &delivered("ID", "10.0.0.7", "250 ok"));
    (0..1000).for_each(|n| history.take(NOW + n, &refused("10.0.0.8")));
    assert_eq!(history.devices()[0]["last_mail"], Value::Null);
    history.take(NOW, &refused("10.0.0.9"));
    let entries = history.entries(0, 10);
    assert_eq!(entries["total"], 3);
    assert_eq!((&entries["entries"][1]["times"], &entries["entries"][1]["time"]), (&json!(1000), &json!(NOW + 999)));
    // The same delivery twice is two deliveries.
    (0..2).for_each(|_| history.take(NOW, &delivered("ID", "10.0.0.7", "250 ok")));
    assert_eq!(history.entries(0, 10)["total"], 5);
}

#[test]
fn strangers_do_not_push_out_devices_and_old_devices_go_first() {
    let mut history = History::default();
    (0..200).for_each(|n| history.take(NOW, &accepted("ID", &format!("10.0.0.{n}"))));
    (0..5000).for_each(|n| history.take(NOW, &refused(&format!("172.16.{}.{}", n / 256, n % 256))));
    let clients = |history: &History, start: &str| {
        let devices = history.devices();
        let all = devices.as_array().unwrap();
        all.iter().filter(|d| d["client"].as_str().unwrap().starts_with(start)).count()
    };
    assert_eq!((clients(&history, "10."), clients(&history, "172.")), (200, 56));
    (0..100).for_each(|n| history.take(NOW, &accepted("ID", &format!("10.0.1.{n}"))));
    assert_eq!((clients(&history, "10.0.0."), clients(&history, "10.0.1.")), (156, 100));
    assert_eq!(clients(&history, "10.0.0.43"), 0);
    assert_eq!(clients(&history, "10.0.0.44"), 1);
}

#[test]
fn those_that_are_turned_away_do_not_push_out_what_became_of_mail() {
    let mut history = History::default();
    (0..150).for_each(|n| history.take(NOW, &delivered(&format!("ID{n}"), "10.0.0.7", "250 Ok")));
    (0..1100).for_each(|n| history.take(NOW, &refused(&format!("172.16.{}.{}", n / 256, n % 256))));
    let of = |outcome| history.verdicts().filter(|verdict| verdict.outcome == outcome).count();
    assert_eq!((of(HistoryOutcome::Delivered), of(HistoryOutcome::Refused)), (100, 100));
    assert!(history.verdicts().any(|verdict| verdict.id == "ID149"));
    assert_eq!(history.verdicts().next_back().unwrap().client, "172.16.4.75");
}

#[test]
fn a_device_is_listed_with_what_it_tried_though_it_never_sent_mail() {
    let mut history = History::default();
    let client = || "10.0.0.7".to_string();
    history.take(NOW, &Event::Aborted { client: client(), reason: "speaks TLS".into() });
    assert_eq!(history.devices()[0]["last_verdict"]["outcome"], json!("aborted"));
    history.take(NOW, &Event::LoginFailed { client: client(), name: "plc".into() });
    assert_eq!(history.devices()[0]["last_verdict"]["text"], json!("wrong user name or password, login 'plc'"));
    history.take(NOW + 1, &Event::NoMail { client: client(), helo: "pump".into(), tried: "said QUIT".into() });
    let device = &history.devices()[0];
    assert_eq!((&device["helo"], &device["last_seen"]), (&json!("pump"), &json!(NOW + 1)));
    assert_eq!(device["last_verdict"], json!({ "outcome": "connected", "text": "said QUIT", "time": NOW + 1 }));
    assert_eq!((&device["accepted"], &device["refused"]), (&json!(0), &json!(0)));
    assert_eq!(history.entries(0, 10)["total"], json!(0));
}

#[test]
fn days_are_bounded_and_a_wrong_clock_leaves_no_trace() {
    let mut history = History::default();
    history.take(0, &refused("10.0.0.8"));
    history.take(NOW + 400 * DAY, &refused("10.0.0.8"));
    for day in 0..50 {
        history.take(NOW + day * DAY, &refused("10.0.0.8"));
    }
    // A step back by one day does not add another.
    history.take(NOW + 48 * DAY, &refused("10.0.0.8"));
    let counters = history.counters(&["gmail"], &["plc"]);
    let days = counters["days"].as_array().unwrap();
    assert_eq!((days.len(), &days[0]["refused"], &days[1]["refused"]), (30, &json!(1), &json!(2)));
    assert!(days.windows(2).all(|two| two[0]["day"].as_i64() > two[1]["day"].as_i64()));
    assert_eq!(counters["refused"], 53);
}

#[test]
fn memory_is_bounded() {
    let mut history = History::default();
    let long = "ü".repeat(1000);
    for n in 0..1000 {
        let client = format!("{n}{long}");
        history.take(NOW, &accepted(&long, &client));
        history.take(NOW, &Event::Aborted { client: client.clone(), reason: long.clone() });
        history.take(NOW, &delivered(&long, &client, &long));
        history.take(
            NOW,
            &Event::Deferred {
                id: long.clone(),
                to: long.clone(),
                account: long.clone(),
                tls: None,
                reason: long.clone(),
                next: Duration::ZERO,
                planned: false,
            },
        );
    }
    let device_text: usize = history.devices.0.iter().map(DeviceRecord::weight).sum();
    assert!(history.verdicts.text_size() <= VERDICT_TEXT && device_text <= DEVICE_TEXT);
    let verdicts = history.verdicts.memory();
    assert!(verdicts <= (VERDICTS + 1) * 64 + VERDICT_TEXT + 3 * 4096, "{verdicts} bytes");
    // With 16 bytes that an allocator adds to each text.
    let devices = 256 * size_of::<DeviceRecord>() + 256 * 7 * 16 + DEVICE_TEXT;
    println!("at most {} bytes", verdicts + devices);
    assert!(verdicts + devices < 160_000);
    assert!(history.encode().len() < 200_000);
}

#[test]
fn subjects_are_kept_within_the_bound_and_forgotten_on_request() {
    let mut history = History::default();
    history.take(NOW, &delivered("ID1", "10.0.0.7", "250 ok"));
    history.take(NOW, &failed("ID2", "10.0.0.7"));
    let subjects = |history: &History| -> Vec<Value> {
        let entries = history.entries(0, 9)["entries"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["subject"].clone()).collect()
    };
    assert_eq!(subjects(&history), ["Pump 3 stopped", "Pump 3 stopped"]);
    history.forget_subjects();
    assert_eq!(subjects(&history), ["", ""]);
    assert!(history.verdicts().all(|verdict| verdict.text.contains("ok") || verdict.text.contains("no")));
    assert!(!String::from_utf8(history.encode()).unwrap().contains("Pump"));
}

#[test]
fn a_file_from_before_subjects_is_read() {
    let lines = "[\"verdict\",1800000000,\"delivered\",\"ID1\",\"10.0.0.7\",\"a@b.c\",\"d@e.f\",700,\"gmail\",\"\",\"250 ok\",3,1]\n";
    let sum = crate::system::checksum::Checksum::of(lines.as_bytes());
    let history = History::decode(format!("smtprelay-history 1 {sum:08x}\n{lines}").as_bytes());
    let entries = history.entries(0, 9);
    assert_eq!((&entries["entries"][0]["id"], &entries["entries"][0]["subject"]), (&json!("ID1"), &json!("")));
}

fn events() -> impl Strategy<Value = Vec<(i64, Event)>> {
    let name = || "[A-C]{0,3}";
    let event = prop_oneof![
        (name(), name()).prop_map(|(id, client)| accepted(&id, &client)),
        (name(), name(), "(?s).{0,300}").prop_map(|(id, client, text)| match delivered(&id, &client, &text) {
            Event::Delivered { id, client, from, to, size, account, tls, reply, delay, .. } => {
                Event::Delivered { id, client, from, to, size, subject: text, account, tls, reply, delay }
            }
            other => other,
        }),
        (name(), name()).prop_map(|(id, client)| failed(&id, &client)),
        name().prop_map(|client| refused(&client)),
        (name(), "(?s).{0,300}", prop::collection::vec(".{0,200}", 0..3))
            .prop_map(|(client, text, to)| { Event::Rejected { client, from: text.clone(), to, reply: text } }),
        (name(), "(?s).{0,300}").prop_map(|(client, reason)| Event::Aborted { client, reason }),
        (name(), name(), "(?s).{0,300}").prop_map(|(client, helo, tried)| Event::NoMail { client, helo, tried }),
    ];
    prop::collection::vec((any::<i64>().prop_map(|at| at % 4_000_000_000), event), 0..60)
}

fn taken(events: &[(i64, Event)]) -> History {
    let mut history = History::default();
    events.iter().for_each(|(at, event)| history.take(*at, event));
    history
}

proptest! {
    #[test]
    fn it_comes_back_from_its_file(events in events()) {
        let history = taken(&events);
        let back = History::decode(&history.encode());
        prop_assert_eq!(back, History { since: None, total: DayCounts::default(), tally: Tally::default(), ..history });
    }

    #[test]
    fn a_torn_or_changed_file_is_an_empty_history(events in events(), at: prop::sample::Index, bit in 0u8..8) {
        let file = taken(&events).encode();
        let at = at.index(file.len());
        let mut changed = file.clone();
        changed[at] ^= 1 << bit;
        // The case of a digit of the checksum is ignored.
        if !changed.eq_ignore_ascii_case(&file) {
            prop_assert_eq!(History::decode(&changed), History::default());
        }
        let torn = History::decode(&file[..at]);
        prop_assert!(torn == History::default());
    }

    #[test]
    fn any_file_can_be_read(file: Vec<u8>, lines in "(\\[(\"day\"|\"verdict\"|\"device\"|1|,|\"x\"|-1|null|\\[)*\\]\n){0,4}") {
        prop_assert_eq!(History::decode(&file), History::default());
        let sum = crate::system::checksum::Checksum::of(lines.as_bytes());
        let history = History::decode(format!("smtprelay-history 1 {sum:08x}\n{lines}").as_bytes());
        prop_assert_eq!(history, History::default());
    }
}

#[test]
fn mail_is_counted_by_account_and_kind_of_device() {
    let mut history = History::default();
    let of_plc = |event: Event| match event {
        Event::Accepted { id, client, helo, title, login, tls, from, to, size, subject, repairs, .. } => {
            let device = Some("plc".into());
            Event::Accepted { id, client, helo, device, title, login, tls, from, to, size, subject, repairs }
        }
        other => other,
    };
    history.take(NOW, &of_plc(accepted("ID1", "10.0.0.7")));
    history.take(NOW, &delivered("ID1", "10.0.0.7", "250 ok"));
    history.take(NOW, &failed("ID1", "10.0.0.7"));
    history.take(NOW, &refused("10.0.0.7"));
    history.take(NOW, &accepted("ID2", "10.0.0.8"));
    history.take(NOW, &delivered("ID2", "local", "250 ok"));
    // A report of the gateway belongs to no device, but to an account.
    history.take(NOW, &delivered("ID3", "", "250 ok"));
    history.take(NOW, &refused("10.0.0.9"));
    let counters = history.counters(&["gmail", "unused"], &["plc"]);
    let sums = |list: &str, name: &str, fields: &[&str]| -> Vec<u64> {
        let found = counters[list].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
        fields.iter().map(|field| found[*field].as_u64().expect(field)).collect()
    };
    let fields = ["accepted", "accepted_bytes", "delivered", "delivered_bytes", "failed", "refused"];
    assert_eq!(sums("devices", "plc", &fields), [1, 500, 1, 700, 1, 1]);
    assert_eq!(sums("devices", "other", &fields), [1, 500, 0, 0, 0, 1]);
    assert_eq!(sums("devices", "local", &fields), [0, 0, 1, 700, 0, 0]);
    let fields = ["delivered", "delivered_bytes", "deferred", "failed"];
    assert_eq!(sums("accounts", "gmail", &fields), [3, 2100, 0, 1]);
    assert_eq!(sums("accounts", "unused", &fields), [0, 0, 0, 0]);
    assert_eq!((&counters["accepted_bytes"], &counters["delivered_bytes"]), (&1000.into(), &2100.into()));
}

#[test]
fn a_silent_device_is_a_verdict_of_its_section_and_no_client() {
    let mut history = History::default();
    let (device, name) = ("pump".to_string(), "Pump house".to_string());
    let silent =
        Event::DeviceSilent { device: device.clone(), name: name.clone(), last: None, reason: "silent".into() };
    history.take(NOW, &silent);
    for heard in [true, false] {
        let ok = Event::DeviceOk { device: device.clone(), name: name.clone(), heard, reason: "heard".into() };
        history.take(NOW + 1, &ok);
    }
    let history = History::decode(&history.encode());
    let entries = history.entries(0, 9);
    assert_eq!(entries["total"], 2, "a change of the settings is not a result: {entries}");
    let fields = |at: usize| ["outcome", "client", "section", "text"].map(|name| entries["entries"][at][name].clone());
    assert_eq!(fields(0), ["heard", "pump", "pump", "heard"]);
    assert_eq!(fields(1), ["silent", "pump", "pump", "silent"]);
    assert_eq!(history.devices(), Value::Array(Vec::new()));
    assert_eq!(history.today(NOW)["failed"], 0);
}
