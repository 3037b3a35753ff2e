// SPDX-License-Identifier: Apache-2.0
//! The settings as a whole: the contract file, each kind of error with its line, and what `show` prints.

use super::*;
use crate::message::FromPolicy;

/// The file that test beds and benchmarks use.
const CONTRACT: &str = "
config relay 'main'
	option enabled '1'
	option hostname 'gw.example'
	option spool '/tmp/x/ram'
	option safe_spool '/tmp/x/flash'
	option durability 'always'

config listener 'lan'
	list address '127.0.0.1'
	option port '2525'
	list allow '127.0.0.0/8'

config account 'provider'
	option provider 'custom'
	option host 'localhost'
	option port '4650'
	option tls 'implicit'
	option ca_file '/tmp/x/ca.pem'
	option username 'u'
	option password 'p'
	option from 'me@example.com'
	option from_policy 'keep'
";

fn read(text: &str) -> (Settings, Vec<Problem>) {
    load::settings(&uci::parse(text.as_bytes()).unwrap())
}

/// The findings as `LINE E|W TEXT`.
fn findings(text: &str) -> Vec<String> {
    let (_, mut problems) = read(text);
    problems.sort_by_key(|p| p.line);
    problems
        .iter()
        .map(|p| format!("{} {} {}", p.line, if p.severity == Severity::Error { 'E' } else { 'W' }, p.text))
        .collect()
}

#[test]
fn the_contract_file_works_as_it_stands() {
    let (settings, problems) = read(CONTRACT);
    assert_eq!(problems, []);
    assert_eq!(settings.relay.durability, Durability::Always);
    assert_eq!(settings.relay.accept_spool(), Path::new("/tmp/x/flash"));
    assert_eq!(settings.listeners[0].port, 2525);
    let account = &settings.accounts[0];
    assert_eq!((account.host.as_str(), account.port, account.tls), ("localhost", 4650, TlsMode::Implicit));
    assert_eq!(account.from_policy, FromPolicy::Keep);
    assert_eq!(account.password.expose(), "p");
}

#[test]
fn two_settings_are_enough_with_a_preset() {
    let (settings, problems) = read(
        "config listener 'lan'\n list interface 'lan'\n\
         config account 'gmail'\n option provider 'gmail'\n option username 'me@gmail.com'\n option password 'abcd'\n",
    );
    assert_eq!(problems, []);
    let account = &settings.accounts[0];
    assert_eq!((account.host.as_str(), account.port, account.from.as_str()), ("smtp.gmail.com", 465, "me@gmail.com"));
    assert_eq!(account.from_policy, FromPolicy::Account);
    assert_eq!(settings.relay.durability, Durability::Deferred);
}

#[test]
fn a_preset_with_local_part_logins_keeps_the_address_as_sender() {
    let (settings, _) =
        read("config account 'w'\n option provider 'webde'\n option username 'me@web.de'\n option password 'x'\n");
    assert_eq!(settings.accounts[0].username.as_deref(), Some("me"));
    assert_eq!(settings.accounts[0].from, "me@web.de");
}

#[test]
fn the_shipped_file_can_be_used_and_waits_for_an_account() {
    let shipped = include_str!("../../files/etc/config/smtprelay");
    let (settings, problems) = read(shipped);
    assert!(!settings.relay.enabled && settings.accounts.is_empty());
    assert_eq!(problems.iter().filter(|p| p.severity == Severity::Error).count(), 0, "{problems:?}");
    // Three settings and the enable switch, as in the README.
    let filled = shipped.replace("'custom'", "'gmail'\n\toption username 'me@gmail.com'\n\toption password 'x'");
    let (settings, problems) = read(&filled.replace("enabled '0'", "enabled '1'"));
    assert_eq!(problems, []);
    assert_eq!(settings.accounts[0].host, "smtp.gmail.com");
}

#[test]
fn findings_carry_their_line() {
    let base = CONTRACT.trim_start();
    let changed = |from: &str, to: &str| findings(&base.replace(from, to));
    assert_eq!(
        changed("'always'", "'never'"),
        ["6 E option durability 'never' is not one of memory, deferred, always"]
    );
    assert_eq!(changed("port '2525'", "port '70000'"), ["10 E option port '70000' is not a port from 0 to 65535"]);
    assert_eq!(changed("list allow", "list alow"), ["11 W unknown option 'alow' in section 'listener' is ignored"]);
    assert_eq!(
        changed("127.0.0.0/8", "0.0.0.0/0"),
        ["11 W list allow '0.0.0.0/0' allows anyone on the internet to send through your account"]
    );
    assert!(changed("127.0.0.0/8", "lan")[0].starts_with("11 E list allow 'lan' is not an IP address or a network"));
    assert!(changed("tls 'implicit'", "tls 'none'")[0].starts_with("17 E tls 'none' with a username would send"));
    assert!(
        changed("config account", "config acount")[0]
            .starts_with("0 W no account is enabled: mail is accepted and stays in the queue")
    );
    assert!(changed("	option password 'p'\n", "")[0].starts_with("19 W account 'provider' has no password"));
    assert!(changed("'me@example.com'", "'me at home'")[0].contains("is not a mail address"));
    assert!(changed("'custom'", "'gmial'")[0].contains("is not custom or one that"));
    assert!(changed("'gw.example'", "'gw example'")[0].starts_with("3 E option hostname"));
}

#[test]
fn plain_relaying_must_be_spelled_out_and_is_warned_about() {
    let text = "config listener 'l'\n list address '::1'\nconfig account 'a'\n option host 'mx.plant'\n option tls 'none'\n option from_policy 'keep'\n";
    let found = findings(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("5 W tls 'none': mail is sent to mx.plant unencrypted"));
    assert_eq!(read(text).0.accounts[0].port, 25);
}

#[test]
fn a_control_character_never_gets_into_a_value() {
    let found = findings("config relay 'main'\n option enabled '0'\n option hostname 'a\r\nQUIT'\n");
    assert!(found[0].contains("free of control characters"), "{found:?}");
    let found = findings("config account 'a'\n option host 'h'\n option username 'u'\n option password 'hunter\t2'\n");
    assert!(found.iter().any(|f| f.contains("free of control characters")), "{found:?}");
    assert!(!found.iter().any(|f| f.contains("hunter")), "{found:?}");
}

#[test]
fn fingerprints_are_read_as_openssl_prints_them() {
    let hex = ["0A"; 32].join(":");
    let text =
        format!("config account 'a'\n option host 'h'\n option fingerprint '{hex}'\n option from_policy 'keep'\n");
    assert_eq!(read(&text).0.accounts[0].fingerprint, Some([10; 32]));
    assert!(findings(&text.replace("0A:", "0G:")).iter().any(|found| found.contains("is not a SHA-256")));
}

#[test]
fn patience_has_bounds() {
    let with = |value: &str| {
        CONTRACT.replace("option password 'p'", &format!("option password 'p'\n\toption timeout '{value}'"))
    };
    assert_eq!(read(CONTRACT).0.accounts[0].timeout.as_secs(), 120);
    for (value, seconds) in [("5", 5), ("90s", 90), ("10m", 600)] {
        let (settings, problems) = read(&with(value));
        assert_eq!((settings.accounts[0].timeout.as_secs(), problems.len()), (seconds, 0), "{value}");
    }
    assert!(findings(&with("4s"))[0].contains("at least 5s"), "{:?}", findings(&with("4s")));
    assert!(findings(&with("11m"))[0].contains("option timeout is more than 10m"));
}

#[test]
fn show_masks_the_password_fills_in_defaults_and_reads_back() {
    let (settings, _) = read(CONTRACT);
    let shown = show(&settings);
    assert!(!shown.contains("'p'"), "{shown}");
    assert!(shown.contains("option password '********'"), "{shown}");
    assert!(shown.contains("option message_limit '25M'"), "{shown}");
    let (mut again, problems) = read(&shown);
    assert_eq!(problems, []);
    again.accounts[0].password = settings.accounts[0].password.clone();
    assert_eq!(again, settings);
}

/// A file with every option, and one with everything that can be wrong with an option.
#[test]
fn what_is_printed_stays_as_it_is() {
    let full = include_bytes!("../../tests/data/settings/full.conf");
    let full = parse(Path::new("full.conf"), full).unwrap();
    assert_eq!(show(&full.settings), include_str!("../../tests/data/settings/full.shown"));
    let wrong = include_bytes!("../../tests/data/settings/wrong.conf");
    let wrong = parse(Path::new("wrong.conf"), wrong).unwrap_err();
    assert_eq!(wrong.to_string() + "\n", include_str!("../../tests/data/settings/wrong.findings"));
}

#[test]
fn load_reports_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("smtprelay");
    std::fs::write(&file, "config relay 'main'\n\toption enabled '1\n").unwrap();
    let error = load(&file).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:2: error: ", file.display())), "{error}");
    assert!(error.contains("unterminated"), "{error}");
    assert!(load(&dir.path().join("none")).unwrap_err().to_string().contains("cannot read the settings"));
}

#[test]
fn logins_of_devices() {
    let text = CONTRACT.to_string()
        + "config user 'camera'\n option password 'hidden'\n list sender 'cam@example.com'\n list sender 'plant.example'\n option account 'provider'\n\
           config user\n option username 'me@plant'\n option password 'p2'\n\
           config user 'off'\n option enabled '0'\n";
    let (settings, problems) = read(&text);
    assert_eq!(problems, []);
    assert_eq!(settings.users.len(), 2);
    assert_eq!((settings.users[0].username.as_str(), settings.users[0].password.expose()), ("camera", "hidden"));
    assert_eq!(settings.users[0].senders, ["cam@example.com", "plant.example"]);
    assert_eq!(settings.users[0].accounts, ["provider"]);
    assert_eq!(settings.users[1].username, "me@plant");
    let shown = show(&settings);
    assert!(!shown.contains("hidden") && shown.contains("list sender 'plant.example'"), "{shown}");
    let (mut again, _) = read(&shown);
    again.users[0].password = settings.users[0].password.clone();
    again.users[1].password = settings.users[1].password.clone();
    assert_eq!(again.users, settings.users);
    let wrong = |from: &str, to: &str| findings(&text.replacen(from, to, 1)).join("\n");
    assert!(wrong(" option password 'hidden'\n", "").contains("user 'camera' has no password"));
    assert!(wrong("'me@plant'", "'camera'").contains("duplicate user 'camera'"));
    assert!(wrong(" option username 'me@plant'\n", "").contains("a user needs a name"));
    assert!(wrong("'plant.example'", "'a b'").contains("is not a mail address, or a domain"));
    assert!(
        wrong("option account 'provider'", "list account 'x'").contains("account 'x' is not the name of a section")
    );
}

#[test]
fn routes_name_what_there_is() {
    let text = format!("{}{DEVICES}", CONTRACT.trim_start())
        + "config user 'cam'\n option username 'camera-7'\n option password 'x'\n\
           config route\n option account 'provider'\n list login 'cam'\n list login 'camera-7'\n list device 'pump_house'\n";
    let text = text.replace("option port '2525'", "option port '2525'\n option auth 'optional'");
    let (settings, problems) = read(&text);
    assert_eq!(problems, []);
    assert_eq!(read(&show(&settings)).0.routes, settings.routes);
    let wrong = |from: &str, to: &str| findings(&text.replacen(from, to, 1)).join("\n");
    assert!(wrong("device 'pump_house'\n", "device 'pump'\n").contains("list device 'pump_house' is not the name"));
    assert!(wrong("list login 'cam'", "list login 'cma'").contains("W list login 'cma' is not the name of a section"));
    assert!(wrong(" option auth 'optional'", "").contains("W list login matches no mail"));
}

#[test]
fn how_a_listener_is_protected() {
    let with = |options: &str| CONTRACT.replace("option port '2525'", &format!("option port '2525'\n{options}"));
    let (settings, problems) = read(&with(
        " option tls 'starttls'\n option certificate '/etc/a.crt'\n option key '/etc/a.key'\n option dialect 'strict'\n option auth 'optional'\n",
    ));
    assert_eq!(problems, []);
    let listener = &settings.listeners[0];
    assert_eq!(
        (listener.tls, listener.dialect, listener.auth),
        (TlsMode::StartTls, Dialect::Strict, AuthMode::Optional)
    );
    assert_eq!(listener.certificate.as_deref(), Some(Path::new("/etc/a.crt")));
    assert_eq!(read(&show(&settings)).0.listeners, settings.listeners);
    assert!(findings(&with(" option key '/etc/a.key'\n"))[0].contains("belong together"));
    assert!(findings(&with(" option key 'a.key'\n option certificate '/c'\n"))[0].contains("absolute path"));
    assert!(findings(&with(" option auth 'required'\n"))[0].contains("no device can send"));
    assert!(findings(&with(" option tls 'yes'\n"))[0].contains("is not one of implicit, starttls, none"));
}

const DEVICES: &str = "
config device 'pump_house'
	list ip '192.168.1.20'
	list mac '00:11:22:AA:bb:cc'
	list host 'plc-7'
	option name 'Pump house'
	option account 'provider'
	list allow_recipient '*@example.com'
	list rewrite '*@plant.local ops@example.com'
	option rate '20/h'
	option digest_every '5m'
	option expect_every '26h'

config device 'default'
	list recipient 'root'

config alias
	list name 'root'
	list name 'postmaster'
	list to 'staff'

config alias 'all'
	list name 'staff'
	list to 'me@example.com'
	list to 'you@example.com'
";

#[test]
fn devices_and_aliases_are_read_and_shown() {
    let text = format!("{}{DEVICES}", CONTRACT.trim_start());
    let (settings, problems) = read(&text);
    assert_eq!(problems, []);
    let device = &settings.devices[0];
    assert_eq!((device.title(), device.accounts.as_slice()), ("Pump house", ["provider".to_string()].as_slice()));
    assert_eq!((device.over_rate, device.digest_every.as_secs()), (OverRate::Digest, 300));
    assert_eq!(device.macs[0].to_string(), "00:11:22:aa:bb:cc");
    assert!(device.is_expected() && device.expect_every.as_secs() == 26 * 3600);
    let shown = show(&settings);
    assert_eq!((shown.matches("expect_every").count(), shown.matches("expect_every '26h'").count()), (1, 1), "{shown}");
    assert!(settings.devices[1].is_default() && settings.aliases.len() == 2);
    let (again, problems) = read(&show(&settings));
    assert_eq!(problems, []);
    assert_eq!(again.devices, settings.devices);
    let without_lines =
        |settings: &Settings| settings.aliases.iter().map(|a| (a.names.clone(), a.to.clone())).collect::<Vec<_>>();
    assert_eq!(without_lines(&again), without_lines(&settings));
}

#[test]
fn findings_in_devices_carry_their_line() {
    let base = format!("{}{DEVICES}", CONTRACT.trim_start());
    let changed = |from: &str, to: &str| {
        assert!(base.contains(from), "{from}");
        findings(&base.replace(from, to))
    };
    let line = |text: &str| base.lines().position(|l| l.contains(text)).unwrap() + 1;
    for (from, to, kind, at, finding) in [
        (
            "'192.168.1.20'",
            "'192.168.1.x'",
            'E',
            line("list ip"),
            "list ip '192.168.1.x' is not an IP address or a network without leading zeros",
        ),
        ("00:11:22:AA:bb:cc", "00:11:22", 'E', line("list mac"), "list mac '00:11:22' is not a MAC address"),
        ("'plc-7'", "'plc 7'", 'E', line("list host"), "list host 'plc 7' is not a host name"),
        (
            "account 'provider'\n\tlist a",
            "account 'gmial'\n\tlist a",
            'W',
            line("option account 'provider'"),
            "account 'gmial' is not the name of a section",
        ),
        (
            "allow_recipient '*@example.com'",
            "allow_recipient 'all of us'",
            'E',
            line("list allow_r"),
            "list allow_recipient 'all of us' is not an address or a pattern",
        ),
        (
            "ops@example.com'",
            "'",
            'E',
            line("list rewrite"),
            "list rewrite '*@plant.local' is not a pattern and a new address",
        ),
        ("'20/h'", "'20'", 'E', line("option rate"), "option rate '20' is not a number of messages per s, m, h or d"),
        (
            "option digest_every '5m'",
            "option over_rate 'drop'",
            'E',
            line("digest_every"),
            "option over_rate 'drop' is not one of digest, defer, reject",
        ),
        (
            "every '26h'",
            "every '0'",
            'E',
            line("expect_every"),
            "option expect_every '0' is not a number of seconds, or a number with s, m, h, d or w, such as 4d, at least 1m",
        ),
        (
            "every '26h'",
            "every '59s'",
            'E',
            line("expect_every"),
            "option expect_every '59s' is not a number of seconds",
        ),
        ("every '26h'", "every 'often'", 'E', line("expect_every"), "option expect_every 'often' is not a number of"),
        ("every '26h'", "every '366d'", 'E', line("expect_every"), "option expect_every is more than 365d"),
        (
            "list recipient 'root'",
            "option expect_every '1h'",
            'W',
            line("list recipient"),
            "option expect_every has no effect in device 'default'",
        ),
        ("digest_every '5m'", "digest_every '8d'", 'E', line("digest_every"), "option digest_every is more than 1w"),
        (
            "\toption rate '20/h'\n",
            "",
            'W',
            line("option rate"),
            "option digest_every has no effect without option rate",
        ),
        (
            "rate '20/h'",
            "rate '20/h'\n\toption over_rate 'reject'",
            'W',
            line("digest_every") + 1,
            "option digest_every has an effect only with",
        ),
        (
            "list recipient 'root'",
            "list recipient 'root'\n\tlist ip '10.0.0.1'",
            'W',
            line("device 'default'"),
            "device 'default' applies to all devices without a section",
        ),
        ("device 'default'", "device 'other'", 'W', line("device 'default'"), "device 'other' has no ip, mac or host"),
        (
            "device 'default'",
            "device 'other'\n\tlist host 'PLC-7'",
            'W',
            line("device 'default'"),
            "PLC-7 already belongs to device 'pump_house' of line 24",
        ),
        (
            "list recipient 'root'",
            "list recipient 'root'\n\tlist allow_recipient '*'",
            'W',
            line("list recipient"),
            "list recipient sets who gets all mail",
        ),
        (
            "list recipient 'root'",
            "list recipient 'bob'",
            'E',
            line("device 'default'"),
            "list recipient 'bob' has no domain, no alias matches it",
        ),
        (
            "list recipient",
            "list recipent",
            'W',
            line("list recipient"),
            "unknown option 'recipent' in section 'device'",
        ),
        ("list to 'staff'", "", 'E', line("config alias"), "alias without list to"),
        ("list to 'staff'", "list to 'nobody'", 'E', line("config alias"), "list to 'nobody' has no domain"),
        (
            "'postmaster'",
            "'a*@b.c'",
            'E',
            line("'postmaster'"),
            "list name 'a*@b.c' is not an address, a name such as root",
        ),
        (
            "list name 'staff'",
            "list name 'staff'\n\tlist name 'ROOT'",
            'E',
            line("alias 'all'"),
            "alias 'ROOT' is already defined in line 39",
        ),
        (
            "list to 'you@example.com'",
            "list to 'Root'",
            'E',
            line("alias 'all'"),
            "these aliases form a loop: 'root' (line 39) to 'staff' (line 44) and back to 'Root'",
        ),
    ] {
        let found = changed(from, to);
        let wanted = format!("{at} {kind} {finding}");
        assert!(found.len() == 1 && found[0].starts_with(&wanted), "{from} -> {to}: {found:#?}\nwanted {wanted}");
    }
}

#[test]
fn aliases_may_collect_their_own_domain_and_lead_on_for_a_while() {
    let fine = "config relay\n option enabled '0'\nconfig alias\n list name '*@x.org'\n list to 'me@x.org'\n\
                config alias\n list name 'a@y.org'\n list to 'a@y.org'\n list to 'b@y.org'\n";
    assert_eq!(findings(fine), [] as [String; 0]);
    let chain = |length: usize| {
        let mut text = "config relay\n option enabled '0'\n".to_string();
        for n in 0..length {
            text += &format!("config alias\n list name 'a{n}'\n list to 'a{}'\n list to 'x@y.z'\n", n + 1);
        }
        text + &format!("config alias\n list name 'a{length}'\n list to 'x@y.z'\n")
    };
    assert_eq!(findings(&chain(7)), [] as [String; 0]);
    let found = findings(&chain(8));
    assert!(found.len() == 1 && found[0].contains("a chain of more than 8 aliases leads to"), "{found:?}");
    let catch_all = "config relay\n option enabled '0'\nconfig alias\n list name '*'\n list to 'root'\n";
    assert!(findings(catch_all)[0].starts_with("3 E these aliases form a loop: 'root' (line 3) and back to 'root'"));
}

#[test]
fn a_relative_path_is_refused_wherever_one_is_named() {
    for option in ["spool", "safe_spool", "secrets", "hook", "ca_file"] {
        let section = if option == "ca_file" { "account" } else { "relay" };
        let mut text: String = CONTRACT
            .lines()
            .filter(|l| !l.contains(&format!("option {option} ")))
            .fold(String::new(), |text, line| text + line + "\n");
        let at = text.find(&format!("config {section}")).unwrap();
        let end = at + text[at..].find('\n').unwrap() + 1;
        assert_eq!(findings(&text).iter().filter(|found| found.contains(" E ")).count(), 0, "{text}");
        text.insert_str(end, &format!("\toption {option} 'a/b'\n"));
        let found = findings(&text);
        let told = format!("option {option} must be an absolute path");
        assert!(found.iter().any(|found| found.contains(" E ") && found.contains(&told)), "{option}: {found:?}");
    }
}

/// The sample in the docs can be used as it is, and shows every option of the reference.
#[test]
fn the_sample_is_correct_and_complete() {
    const SAMPLE: &str = include_str!("../../docs/reference/sample.conf");
    const REFERENCE: &str = include_str!("../../docs/reference/settings.md");
    let wrong: Vec<String> = findings(SAMPLE).into_iter().filter(|f| !f.contains("has no password")).collect();
    assert_eq!(wrong, [""; 0]);
    // What is commented out is right as well: with all of it, nothing is unknown or misspelt.
    let all = SAMPLE.replace("\t#option", "\toption").replace("\t#list", "\tlist");
    let unknown: Vec<String> = findings(&all).into_iter().filter(|f| f.contains("unknown")).collect();
    assert_eq!(unknown, [""; 0]);
    let (mut section, mut in_table, mut seen) = ("", false, 0);
    for line in REFERENCE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.strip_prefix("`config ").and_then(|rest| rest.split([' ', '`']).next()).unwrap_or("");
        }
        in_table = line.starts_with("| option |") || in_table && line.starts_with('|');
        let Some(cell) = line.strip_prefix("| ").and_then(|rest| rest.split(" |").next()) else { continue };
        for name in cell.split(", ").filter(|name| in_table && name.starts_with('`')) {
            let name = name.trim_matches('`');
            let written = if name.starts_with("list ") { format!("{name} '") } else { format!("option {name} '") };
            let sections = SAMPLE.split("\nconfig ").filter(|part| part.starts_with(section));
            let mut lines = sections.flat_map(str::lines).map(|line| line.trim_start_matches(['\t', '#']));
            assert!(lines.any(|line| line.starts_with(&written)), "the sample does not show {written} of {section}");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen} options found in the reference");
}

/// A star is a valid character of a local part, but whoever writes one in the settings means any address.
#[test]
fn a_pattern_is_refused_where_one_address_is_meant() {
    let device = "config device 'd'\n list ip '10.0.0.1'\n";
    for (text, finding) in [
        (
            &*format!("{device} list rewrite '*@plant.local *@example.com'\n"),
            "list rewrite '*@plant.local *@example.com'",
        ),
        (&format!("{device} list rewrite '*@plant.local ops-*'\n"), "list rewrite '*@plant.local ops-*'"),
        (&format!("{device} list recipient '*@example.com'\n"), "list recipient '*@example.com'"),
        (&format!("{device} list recipient '*'\n"), "list recipient '*'"),
        ("config alias\n list name 'ops'\n list to '*@example.com'\n", "list to '*@example.com'"),
        ("config relay\n option admin '*@example.com'\n", "option admin '*@example.com'"),
        ("config account 'a'\n option host 'h'\n option from '*@example.com'\n", "option from '*@example.com'"),
        ("config account 'a'\n option host 'h'\n option username '*@example.com'\n", "option from is missing"),
        ("config user 'u'\n option password 'p'\n list sender 'cam*@example.com'\n", "list sender 'cam*@example.com'"),
        ("config user 'u'\n option password 'p'\n list sender '*@*.example.com'\n", "list sender '*@*.example.com'"),
        ("config user 'u'\n option password 'p'\n list sender '*@a@example.com'\n", "list sender '*@a@example.com'"),
    ] {
        let found = findings(text);
        let named = |found: &String| found.contains(&format!(" E {finding}"));
        assert!(found.iter().any(named), "{text}: {found:?}");
    }
    // For the senders of a user, this pattern means what the domain alone means.
    let text = "config user 'u'\n option password 'p'\n list sender '*@example.com'\n";
    assert_eq!(read(text).0.users[0].senders, ["example.com"]);
}

#[test]
fn a_domain_in_place_of_a_pattern_is_pointed_out() {
    let device = "config device 'd'\n list ip '10.0.0.1'\n";
    let route = "config route\n list account 'provider'\n";
    let said = |text: String| findings(&(CONTRACT.trim_start().to_string() + &text)).join("\n");
    for (section, option, rest) in [
        (device, "allow_recipient", ""),
        (device, "rewrite", " ops@example.com"),
        (route, "sender", ""),
        (route, "recipient", ""),
    ] {
        let found = said(format!("{section} list {option} 'example.com{rest}'\n"));
        let wanted = format!(
            " W list {option} 'example.com' matches only the name example.com, without a domain: for all addresses of the domain, write *@example.com"
        );
        assert!(found.ends_with(&wanted), "{found}");
        for fine in ["root", "*", "*.example.com", "*@example.com", "ops@example.com", "a..b"] {
            assert_eq!(said(format!("{section} list {option} '{fine}{rest}'\n")), "", "{option} {fine}");
        }
    }
}

#[test]
fn a_device_that_an_earlier_section_covers_is_reported() {
    let two = |first: &str, second: &str| {
        let text = |name: &str, ips: &str| {
            ips.split(' ').fold(format!("config device '{name}'\n"), |text, ip| text + &format!(" list ip '{ip}'\n"))
        };
        findings(&format!("config relay\n option enabled '0'\n{}{}", text("plant", first), text("pump", second)))
    };
    let covered = "5 W 192.168.1.20/32 already belongs to device 'plant' of line 3: the first one is used";
    assert_eq!(two("192.168.1.0/24", "192.168.1.20"), [covered]);
    assert_eq!(two("192.168.1.20", "192.168.1.20"), [covered]);
    assert_eq!(two("192.168.1.0/24", "10.0.0.1 192.168.1.20"), [covered]);
    assert!(two("192.168.0.0/16", "192.168.1.64/26")[0].contains(" W 192.168.1.64/26 already belongs"));
    assert!(two("fd00::/8", "fd00::20")[0].contains(" W fd00::20/128 already belongs"));
    // An exception that stands before the rule works.
    for (first, second) in
        [("192.168.1.20", "192.168.1.0/24"), ("192.168.1.0/24", "192.168.2.20"), ("::/0", "10.0.0.1")]
    {
        assert_eq!(two(first, second), [""; 0], "{first} {second}");
    }
    // The addresses of `default` have no effect, so they take nothing away.
    let default = "config relay\n option enabled '0'\nconfig device 'default'\n list ip '10.0.0.0/8'\nconfig device 'pump'\n list ip '10.0.0.1'\n";
    assert_eq!(findings(default).len(), 1, "{:?}", findings(default));
}

#[test]
fn where_no_password_works_none_is_asked_for() {
    let base = "config relay\n option enabled '0'\nconfig account 'o'\n option provider 'outlook'\n option username 'me@outlook.com'\n";
    let refused = "Microsoft refuses passwords, including app passwords: only a sign-in with OAuth2 works. Set auth 'xoauth2' and run smtprelay login.";
    assert_eq!(
        findings(base),
        [format!("5 W account 'o' does not sign in, so its mail stays in the queue: {refused}")]
    );
    let with = |options: &str| findings(&format!("{base}{options}"));
    assert_eq!(with(" option password 'x'\n"), [format!("6 W provider outlook: {refused}")]);
    let signs_in = " option auth 'xoauth2'\n option oauth 'microsoft'\n option client_id 'c'\n";
    assert_eq!(with(signs_in), [""; 0]);
    assert_eq!(with(&format!("{signs_in} option password 'x'\n")), [""; 0]);
}

#[test]
fn the_port_of_a_mail_server_is_an_option_of_its_own() {
    let with = |host: &str| findings(&CONTRACT.replace("'localhost'", &format!("'{host}'")));
    for host in ["smtp.example.com:587", "localhost:25", "192.168.1.5:25", "1:2"] {
        let wanted = format!("option host '{host}' is not a host name; the port is set with option port");
        assert!(with(host)[0].contains(&wanted), "{:?}", with(host));
    }
    assert!(with("https://mx.example")[0].ends_with("is not a host name"));
    for host in ["smtp.example.com", "::1", "fd00::25", "192.168.1.5", "mail_1"] {
        assert_eq!(with(host), [""; 0], "{host}");
    }
}

#[test]
fn blanks_around_a_value_are_not_part_of_it() {
    let text = "config relay\n option enabled '0'\n option hostname ' gw.example\t'\nconfig account 'a'\n option username 'me@gmail.com '\n option password ' pass word '\n\
        config user 'u'\n option username 'cam '\n option password '\t p \n'\n list sender '\u{a0}cam@example.com '\n\
        config account 'b'\n option username 'me@gmail.com'\n option host ' '\n option password 'x'\n";
    let (settings, problems) = read(text);
    assert!(problems.iter().all(|problem| problem.severity == Severity::Note), "{problems:?}");
    assert_eq!(settings.relay.hostname.as_deref(), Some("gw.example"));
    let account = &settings.accounts[0];
    assert_eq!((&*account.host, &*account.from), ("smtp.gmail.com", "me@gmail.com"));
    assert_eq!((account.username.as_deref(), account.password.expose()), (Some("me@gmail.com"), " pass word "));
    assert_eq!(settings.accounts[1].host, "smtp.gmail.com");
    let user = &settings.users[0];
    assert_eq!((&*user.username, user.password.expose(), &*user.senders[0]), ("cam", " p ", "cam@example.com"));
    // Where they can be meant, they stay.
    let text = "config escalation 'e'\n list account 'a'\n list subject '\t alarm \t'\n";
    assert_eq!(read(text).0.escalations[0].subjects, [" alarm "]);
}

/// `tests/data/values.json` has values of options: those that are accepted, those that are refused, and unusual ones that
/// only the LuCI page refuses. It is tested with the same file (`tests/luci/logic.test.mjs`), so that it saves nothing with
/// which the gateway would not start.
#[test]
fn values_that_the_page_checks_too() {
    let table: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/values.json")).unwrap();
    let mut wrong = Vec::new();
    for (names, values) in table.as_object().unwrap() {
        for name in names.split(' ') {
            for (verdict, values) in values.as_object().unwrap() {
                for value in values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()) {
                    if (verdict == "refused") == is_accepted(name, value) {
                        wrong.push(format!("{name} {value:?} is not {verdict}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the option called `SECTION.OPTION` may have `value`.
fn is_accepted(name: &str, value: &str) -> bool {
    let (kind, option) = name.split_once('.').unwrap();
    let others: &[(&str, &str)] = match kind {
        "account" if option == "region" => &[("provider", "ses"), ("username", "u"), ("from", "me@example.com")],
        "account" => &[
            ("host", "mail.example"),
            ("username", "me@example.com"),
            ("auth", "xoauth2"),
            ("oauth", "custom"),
            ("client_id", "c"),
        ],
        "channel" if matches!(option, "header" | "body") => {
            &[("service", "custom"), ("url", "https://push.example"), ("body", "{}")]
        }
        "channel" => &[("service", "ntfy"), ("to", "topic")],
        "listener" => &[("certificate", "/x"), ("key", "/x")],
        "relay" => &[("retry_min", "1")],
        _ => &[],
    };
    let others: String = others
        .iter()
        .filter(|(name, _)| *name != option)
        .map(|(name, value)| format!("\toption {name} '{value}'\n"))
        .collect();
    let text = format!("config {kind} 'one'\n{others}\toption {option} '{value}'\n");
    let line = u32::try_from(text.lines().count()).unwrap();
    let (_, problems) = read(&text);
    // Whether an alias is missing depends on other sections.
    !problems.iter().any(|p| p.line == line && p.severity == Severity::Error && !p.text.contains("no alias matches it"))
}
