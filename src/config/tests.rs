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
    // Three settings and the switch, as the README says.
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
        ["11 W list allow '0.0.0.0/0' lets the whole world send through your account"]
    );
    assert!(changed("127.0.0.0/8", "lan")[0].starts_with("11 E list allow 'lan' is not a network"));
    assert!(changed("tls 'implicit'", "tls 'none'")[0].starts_with("17 E tls 'none' with a username would send"));
    assert!(changed("config account", "config acount")[0].starts_with("0 E no section 'account' is filled in"));
    assert!(changed("	option password 'p'\n", "")[0].starts_with("19 E option username without option password"));
    assert!(changed("'me@example.com'", "'me at home'")[0].contains("is not a mail address"));
    assert!(changed("'custom'", "'gmial'")[0].contains("is not custom or one that"));
    assert!(changed("'gw.example'", "'gw example'")[0].starts_with("3 E option hostname"));
}

#[test]
fn plain_relaying_must_be_spelled_out_and_is_warned_about() {
    let text = "config listener 'l'\n list address '::1'\nconfig account 'a'\n option host 'mx.plant'\n option tls 'none'\n option from_policy 'keep'\n";
    let found = findings(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("5 W tls 'none': mail goes to mx.plant unprotected"));
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

#[test]
fn load_reports_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("smtprelay");
    std::fs::write(&file, "config relay 'main'\n\toption enabled '1\n").unwrap();
    let error = load(&file).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:2: error: ", file.display())), "{error}");
    assert!(error.contains("unterminated"), "{error}");
    assert!(load(&dir.path().join("none")).unwrap_err().to_string().contains("can't read the settings"));
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
    assert_eq!(settings.users[0].account.as_deref(), Some("provider"));
    assert_eq!(settings.users[1].username, "me@plant");
    let shown = show(&settings);
    assert!(!shown.contains("hidden") && shown.contains("list sender 'plant.example'"), "{shown}");
    let (mut again, _) = read(&shown);
    again.users[0].password = settings.users[0].password.clone();
    again.users[1].password = settings.users[1].password.clone();
    assert_eq!(again.users, settings.users);
    let wrong = |from: &str, to: &str| findings(&text.replacen(from, to, 1)).join("\n");
    assert!(wrong(" option password 'hidden'\n", "").contains("user 'camera' has no password"));
    assert!(wrong("'me@plant'", "'camera'").contains("a second user 'camera'"));
    assert!(wrong(" option username 'me@plant'\n", "").contains("a user needs a name"));
    assert!(wrong("'plant.example'", "'a b'").contains("neither a mail address nor a domain"));
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
    assert!(findings(&with(" option auth 'required'\n"))[0].contains("no device could send"));
    assert!(findings(&with(" option tls 'yes'\n"))[0].contains("is not one of implicit, starttls, none"));
}
