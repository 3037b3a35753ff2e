// SPDX-License-Identifier: Apache-2.0
//! The policy as a table: device, recipients, rate, account.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::config::{load, uci};

const SETTINGS: &str = "
config relay 'main'
	option enabled '0'
	option admin 'admin@example.com'

config account 'fast'
	option host 'a.example.com'
	option from 'a@example.com'

config account 'bulk'
	option host 'b.example.com'
	option from 'b@example.com'

config device 'plc'
	list ip '192.168.1.20'
	list mac '00:11:22:aa:bb:cc'
	list host 'plc-7'
	option name 'Pump house'
	option account 'fast'
	list allow_recipient '*@example.com'
	list allow_recipient 'night@guard.org'
	list rewrite '*@plant.local staff'
	list rewrite '*@old.org ops@example.com'
	option rate '2/m'
	option over_rate 'reject'

config device 'camera'
	list ip '192.168.1.64/26'
	option account 'bulk'
	list recipient 'staff'
	list recipient 'OPS@example.com'
	option rate '1/m'

config device 'default'
	option rate '1/m'
	option over_rate 'defer'

config alias
	list name 'root'
	list to 'staff'
config alias
	list name 'staff'
	list to 'ops@example.com'
	list to 'boss@example.com'
config alias
	list name '*@site.org'
	list to 'me@site.org'
config alias
	list name 'special@site.org'
	list to 'special@site.org'
	list to 'night@guard.org'
config alias
	list name '*'
	list to 'post@example.com'
";

fn settings(text: &str) -> Settings {
    let (settings, problems) = load::settings(&uci::parse(text.as_bytes()).unwrap());
    assert_eq!(problems, []);
    settings
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Client, its MAC, its host name; device, account, result of a burst of three; and for recipients who receives it.
type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, &'a [(&'a str, &'a str)]);

#[test]
fn the_table_of_devices_recipients_rates_and_accounts() {
    let policies = Policies::new(&settings(SETTINGS));
    let refused = |address: &str| {
        format!(
            "550 5.7.1 Pump house is not allowed to send to {address} (list allow_recipient in its 'device' section)"
        )
    };
    let table: &[Row] = &[
        (
            "192.168.1.20",
            "",
            "",
            "plc",
            "fast",
            "PPR",
            &[
                ("ops@example.com", "ops@example.com"),
                ("x@plant.local", "ops@example.com boss@example.com"),
                ("x@old.org y@plant.local", "ops@example.com boss@example.com"),
                ("b@example.com a@example.com B@EXAMPLE.com", "b@example.com a@example.com"),
                ("night@guard.org root", "night@guard.org ops@example.com boss@example.com"),
                ("thief@evil.org", "! thief@evil.org"),
                ("ops@example.com day@guard.org", "! day@guard.org"),
                // The resolved address is checked, not the original one.
                ("any@site.org", "! me@site.org"),
                ("ops@example.com.evil.org", "! ops@example.com.evil.org"),
            ],
        ),
        ("::ffff:192.168.1.20", "", "", "plc", "fast", "PPR", &[]),
        ("10.0.0.1", "00:11:22:AA:BB:CC", "", "plc", "fast", "PPR", &[]),
        ("10.0.0.1", "", "PLC-7", "plc", "fast", "PPR", &[("thief@evil.org", "! thief@evil.org")]),
        (
            "192.168.1.70",
            "",
            "",
            "camera",
            "bulk",
            "PGG",
            &[("anybody@anywhere.org", "ops@example.com boss@example.com"), ("", "ops@example.com boss@example.com")],
        ),
        // The first section that names it applies.
        ("192.168.1.70", "00:11:22:aa:bb:cc", "", "plc", "fast", "PPR", &[]),
        (
            "192.168.1.128",
            "00:11:22:aa:bb:cd",
            "plc-8",
            "default",
            "",
            "PDD",
            &[
                ("thief@evil.org", "thief@evil.org"),
                ("root", "ops@example.com boss@example.com"),
                ("anybody", "post@example.com"),
                ("x@plant.local", "x@plant.local"),
                ("any@site.org me@site.org ME@site.org", "me@site.org"),
                ("special@site.org", "special@site.org night@guard.org"),
            ],
        ),
    ];
    for (client, mac, host, name, account, burst, cases) in table {
        let host = Some(*host).filter(|host| !host.is_empty());
        let device = policies.device(ip(client), Mac::parse(mac), host).unwrap();
        assert_eq!(device.name, *name, "{client} {mac} {host:?}");
        assert_eq!(device.accounts.join(" "), *account, "{client}");
        let mut rates = Rates::default();
        let outcomes = (0..3).map(|_| match rates.take(device, ip(client), Duration::from_secs(9)) {
            RateOutcome::Pass => 'P',
            RateOutcome::Digest { .. } => 'G',
            RateOutcome::Defer { .. } => 'D',
            RateOutcome::Reject { .. } => 'R',
        });
        assert_eq!(outcomes.collect::<String>(), *burst, "{client}");
        for (said, expected) in *cases {
            let said: Vec<String> = said.split_whitespace().map(str::to_string).collect();
            let got = policies.recipients(Some(device), &said);
            match expected.strip_prefix("! ") {
                Some(address) => {
                    assert_eq!(got.unwrap_err().reply(), refused(address), "{name} {said:?}");
                    assert!(said.iter().any(|one| policies.may(Some(device), one).is_err()), "{name} {said:?}");
                }
                None => {
                    assert_eq!(got.unwrap().join(" "), *expected, "{name} {said:?}");
                    assert!(said.iter().all(|one| policies.may(Some(device), one).is_ok()), "{name} {said:?}");
                }
            }
        }
    }
}

#[test]
fn without_sections_only_names_without_domain_mean_the_admin() {
    let text = "config relay\n option enabled '0'\n option admin 'me@example.com'\n";
    let policies = Policies::new(&settings(text));
    assert!(policies.device(ip("10.0.0.1"), None, None).is_none() && !policies.needs_identity());
    let said = ["root".to_string(), "a@b.c".to_string(), "A@b.c".to_string(), "postmaster".to_string()];
    assert_eq!(policies.recipients(None, &said).unwrap(), ["me@example.com", "a@b.c"]);
    let nobody = Policies::new(&settings("config relay\n option enabled '0'\n"));
    let refusal = nobody.may(None, "root").unwrap_err();
    assert_eq!(refusal.reply(), "550 5.1.3 'root' has no domain, matches no alias, and option admin is not set");
    assert!(Policies::new(&settings(SETTINGS)).needs_identity());
}

#[test]
fn aliases_do_not_make_endless_lists() {
    let mut text = "config relay\n option enabled '0'\n".to_string();
    for level in 0..4 {
        text += &format!("config alias\n list name 'a{level}'\n");
        for n in 0..10 {
            text += &format!(" list to 'x{level}-{n}'\n");
        }
        for n in 0..10 {
            text += &format!("config alias\n list name 'x{level}-{n}'\n");
            let to = if level == 3 { format!("x{n}@y.z") } else { format!("a{}", level + 1) };
            text += &format!(" list to '{to}'\n");
        }
    }
    let policies = Policies::new(&settings(&text));
    assert_eq!(policies.recipients(None, &["a0".into()]).unwrap().len(), 10);
    let many: Vec<String> = (0..=EXPANDED_LIMIT).map(|n| format!("n{n}@y.z")).collect();
    assert_eq!(policies.recipients(None, &many), Err(RecipientRefusal::TooMany));
}

/// The settings in docs/guide/policy.md, one text per example.
fn examples() -> Vec<String> {
    let page = include_str!("../../docs/guide/policy.md");
    let blocks = page.split("```\n").skip(1).step_by(2).filter(|block| block.starts_with("config "));
    blocks.map(|block| format!("config relay\n option enabled '0'\n{block}")).collect()
}

#[test]
fn the_examples_for_people_do_what_they_say() {
    let policies: Vec<Policies> = examples().iter().map(|text| Policies::new(&settings(text))).collect();
    let [_, plc, scanner, camera] = policies.as_slice() else { panic!("four examples") };
    let device = plc.device(ip("192.168.1.20"), None, None);
    let said = |address: &str| vec![address.to_string()];
    let staff = plc.recipients(device, &said("alarm@plant.local")).unwrap();
    assert_eq!(staff, ["anna@example.com", "night@example.com"]);
    let refusal = plc.may(device, "thief@evil.org").unwrap_err().reply();
    assert!(refusal.starts_with("550 5.7.1 Pump house is not allowed to send to thief@evil.org"), "{refusal}");
    let device = scanner.device(ip("192.168.1.21"), Mac::parse("00-1B-A9-12-34-56"), None).unwrap();
    assert_eq!(device.accounts, ["office"]);
    let device = camera.device(ip("192.168.1.22"), None, Some("ipc-yard"));
    assert_eq!(camera.recipients(device, &said("x@y.z")).unwrap(), ["me@example.com"]);
    let mut rates = Rates::default();
    let mut outcomes = (0..6).map(|n| rates.take(device.unwrap(), ip("192.168.1.22"), Duration::from_secs(n)));
    assert!(outcomes.by_ref().take(5).all(|outcome| outcome == RateOutcome::Pass));
    assert_eq!(outcomes.next(), Some(RateOutcome::Digest { due: Duration::from_secs(5 + 1800) }));
}
