// SPDX-License-Identifier: Apache-2.0
//! Started as root, the gateway is an ordinary user from its first connection on: what it may, what it may not, and how
//! root hands over what it can't get for itself. Each test has a network of its own, with port 25 in it.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{User, geteuid};
use serde_json::Value;
use support::ask::{self, SOON, json, queue_until, said};
use support::certs::{Cert, Certs};
use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, RelayBuilder, Section};

/// Who the gateway becomes: somebody whom every system has.
const USER: &str = "nobody";
const TEXT: &str = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: alarm\r\n\r\npump 3\r\n";

/// Gives the test's thread, and what is started from it, an empty network with only loopback.
fn own_network() -> bool {
    if !geteuid().is_root() {
        println!("skipped: only root has something to give up");
        return false;
    }
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        println!("skipped: an emulator stands between the program and its rights");
        return false;
    }
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        println!("skipped: no network namespaces here");
        return false;
    }
    ip("link set lo up")
}

/// Runs `ip`; false when there is none.
fn ip(words: &str) -> bool {
    match Command::new("ip").args(words.split(' ')).status() {
        Ok(status) => assert!(status.success(), "ip {words}"),
        Err(_) => {
            println!("skipped: no ip here");
            return false;
        }
    }
    true
}

fn user() -> (u32, u32) {
    let user = User::from_name(USER).unwrap().expect("the user nobody");
    (user.uid.as_raw(), user.gid.as_raw())
}

fn owner(path: &Path) -> (u32, u32) {
    let file = fs::symlink_metadata(path).unwrap();
    (file.uid(), file.gid())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

async fn provider() -> Provider {
    Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await
}

fn builder(provider: &Provider) -> RelayBuilder {
    Relay::builder().relay_option("user", USER).listener_option("port", 25).account("mine", provider)
}

/// A line of `/proc/PID/status`: what stands behind its name.
fn fact(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The processes that this one has started and that still run.
fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let children = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    found
}

/// A mail is on its way, as far as before its text.
async fn begin(address: SocketAddr) -> Client {
    let mut device = Client::greeted(address).await;
    device.set_limit(SOON);
    let steps = [("EHLO plc", 250), ("MAIL FROM:<plc@example.com>", 250), ("RCPT TO:<ops@example.com>", 250)];
    device.dialogue(&steps).await;
    device.dialogue(&[("DATA", 354)]).await;
    device
}

/// The rest of it.
async fn finish(mut device: Client) {
    device.write(TEXT.as_bytes()).await.unwrap();
    assert_eq!(device.command(".").await.code, 250);
}

/// Why the last reload was refused. The command says beside it that the file is wrong.
async fn error_of(relay: &Relay) -> Value {
    let ran = ask::run(relay, "status --json").await;
    assert!(ran.code == 0 && ran.err.contains(": error: "), "{ran:?}");
    serde_json::from_str::<Value>(&ran.out).unwrap()["settings"]["error"].clone()
}

/// Addresses with ports on which it listens, by its own account.
async fn listening(relay: &Relay) -> Vec<String> {
    let status = json(relay, "status").await;
    let listeners = status["listeners"].as_array().expect("listeners");
    let open = listeners.iter().filter(|listener| listener["note"].is_null());
    open.map(|listener| format!("{}:{}", listener["address"].as_str().unwrap(), listener["port"])).collect()
}

#[tokio::test]
async fn it_is_an_ordinary_user_without_any_capability() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let relay = builder(&provider).start().await;
    assert_eq!(relay.addr().port(), 25);
    let (uid, gid) = user();
    let pid = relay.pid();
    let four = |id: u32| format!("{id} {id} {id} {id}");
    assert_eq!((fact(pid, "Uid"), fact(pid, "Gid")), (four(uid), four(gid)));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(fact(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(fact(pid, "NoNewPrivs"), "1");
    // All threads: rights belong to threads.
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
            assert!(status.contains(line), "{line} {status}");
        }
        assert!(status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}")), "{status}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // Not dumpable: what is in /proc is root's, so nothing of the same user looks into its memory.
    assert_eq!(owner(Path::new(&format!("/proc/{pid}/mem"))), (0, 0));

    finish(begin(relay.addr()).await).await;
    provider.wait_for_messages(1, SOON).await;

    for (path, wanted) in [
        (relay.spool(), 0o711),
        (relay.spool().join("queue"), 0o700),
        (relay.spool().join("lock"), 0o600),
        (relay.spool().join("control.sock"), 0o600),
        (relay.spool().join("submit.sock"), 0o666),
        (relay.safe_spool(), 0o711),
        (relay.safe_spool().join("queue"), 0o700),
        (relay.dir().join("secrets"), 0o700),
    ] {
        assert_eq!((owner(&path), mode(&path)), ((uid, gid), wanted), "{}", path.display());
    }
    // Root may ask, and others can't even knock.
    let status = json(&relay, "status").await;
    assert_eq!(status["settings"]["error"], Value::Null);
    assert_eq!(status["settings"]["file"], relay.config_path().to_str().unwrap());
    assert_eq!(listening(&relay).await, ["127.0.0.1:25"]);
    let program = std::env::var("SMTPRELAY_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_smtprelay").into());
    let socket = relay.spool().join("control.sock");
    let knock = format!("exec 3<>/dev/null; exec '{program}' status --config '{}'", relay.config_path().display());
    fs::set_permissions(relay.config_path(), PermissionsExt::from_mode(0o644)).unwrap();
    let other = Command::new("setpriv").args(["--reuid=1", "--regid=1", "--clear-groups", "sh", "-c", &knock]).output();
    match other {
        // A program below somebody's home cannot be run by others.
        Ok(output) if output.status.code() == Some(126) => println!("skipped: others can't run {program}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("only root may connect to the gateway"), "{said} ({})", socket.display());
        }
        Err(_) => println!("skipped: no setpriv here"),
    }
}

#[tokio::test]
async fn a_reload_brings_new_ports_and_disturbs_nobody() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let mut relay = builder(&provider).start().await;
    let old = begin(relay.addr()).await;
    let same = |name: &str| Section::new("listener", name).list("address", "127.0.0.2").option("port", 26);
    let second = same("second");
    relay.configure("listener", "second", |_| second.clone());
    assert_eq!(said(&relay, "reload").await, "");
    relay.wait_log(|line| line.contains("event=listening") && line.contains("port=26"), SOON).await;
    let new = begin("127.0.0.2:26".parse().unwrap()).await;

    // A file that can't be used changes nothing, and everybody hears where it is wrong.
    relay.configure("listener", "second", |section| section.option("port", "many"));
    let ran = ask::run(&relay, "reload").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let text = fs::read_to_string(relay.config_path()).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("'many'")).unwrap();
    let place = format!("{}:{line}: error: ", relay.config_path().display());
    assert!(ran.err.contains(&place), "{ran:?}");
    let error = error_of(&relay).await;
    assert!(error.as_str().is_some_and(|error| error.starts_with(&place)), "{error}");
    relay.wait_log(|line| line.contains("event=reload_refused") && line.contains(&place), SOON).await;
    // Programs on the router can send all the same.
    let ran = ask::Ran::of(relay.command_with_input(&["send", "ops@example.com"], TEXT.as_bytes()).await);
    assert!(ran.code == 0 && ran.err.contains(&place), "{ran:?}");
    // Not even a settings file.
    fs::write(relay.config_path(), format!("{text}\nconfig 'x\n")).unwrap();
    let ran = ask::run(&relay, "reload").await;
    let place = format!("{}:{}: error: ", relay.config_path().display(), text.lines().count() + 2);
    assert!(ran.code == 1 && ran.err.contains(&place), "{ran:?} {place}");
    let error = error_of(&relay).await;
    assert!(error.as_str().is_some_and(|error| error.starts_with(&place)), "{error}");

    // By itself it can't read them any more, and says what to do.
    relay.configure("listener", "second", |_| second.clone());
    relay.sighup();
    relay.wait_log(|line| line.contains("event=reload_refused") && line.contains("smtprelay reload"), SOON).await;

    // Another name for the same socket, and warnings for whoever asks.
    relay.configure("listener", "second", |section| section.option("enabled", 0));
    relay.configure("listener", "third", |_| same("third").option("colour", "red"));
    let ran = ask::run(&relay, "reload").await;
    assert!(ran.code == 0 && ran.err.contains("colour"), "{ran:?}");
    let status = json(&relay, "status").await;
    assert_eq!(status["settings"]["error"], Value::Null);
    assert!(status["settings"]["warnings"].to_string().contains("colour"), "{status}");
    let renamed = begin("127.0.0.2:26".parse().unwrap()).await;
    for device in [old, new, renamed] {
        finish(device).await;
    }
    provider.wait_for_messages(4, SOON).await;
}

#[tokio::test]
async fn addresses_come_and_go_and_sessions_stay() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let lan = Section::new("listener", "net").list("interface", "lo").option("port", 24);
    let relay = builder(&provider).section(lan).start().await;
    assert!(ip("address add 10.99.0.1/24 dev lo"));
    // It sees the address, and can't have it by itself.
    relay.wait_log(|line| line.contains("10.99.0.1:24") && line.contains("service smtprelay reload"), SOON).await;
    said(&relay, "reload").await;
    relay.wait_log(|line| line.contains("event=listening") && line.contains("address=10.99.0.1"), SOON).await;
    let device = begin("10.99.0.1:24".parse().unwrap()).await;
    let local = begin("127.0.0.1:24".parse().unwrap()).await;
    assert!(ip("address delete 10.99.0.1/24 dev lo"));
    let there = async |wanted: bool| while listening(&relay).await.contains(&"10.99.0.1:24".to_string()) != wanted {};
    // The kernel tells of it: by itself the gateway would not look for a minute.
    let told = Duration::from_secs(30);
    tokio::time::timeout(told, there(false)).await.expect("the address to be given up");
    assert!(ip("address add 10.99.0.1/24 dev lo"));
    said(&relay, "reload").await;
    tokio::time::timeout(SOON, there(true)).await.expect("the address to be taken again");
    let again = begin("10.99.0.1:24".parse().unwrap()).await;
    for device in [device, local, again] {
        finish(device).await;
    }
    provider.wait_for_messages(3, SOON).await;
}

/// Who is not root is only told that it may not have the port.
#[tokio::test]
async fn a_port_of_another_program_is_called_taken_after_root_is_gone_too() {
    if !own_network() {
        return;
    }
    let other = std::net::TcpListener::bind("127.0.0.1:26").unwrap();
    let provider = provider().await;
    let second = Section::new("listener", "second").list("address", "127.0.0.1").option("port", 26);
    let relay = builder(&provider).section(second).start().await;
    let taken =
        |line: &str| line.contains("127.0.0.1:26") && line.contains("another mail server is running on this port");
    relay.wait_log(taken, SOON).await;
    relay.wait_log(|line| taken(line) && line.contains("then run 'service smtprelay reload'"), SOON).await;
    drop(other);
    said(&relay, "reload").await;
    let there = async { while !listening(&relay).await.contains(&"127.0.0.1:26".to_string()) {} };
    tokio::time::timeout(SOON, there).await.expect("the port to be taken");
}

/// Root opens all sockets before the listeners are made, and only one of two that overlap can be opened: the one that
/// comes first in the file, as without root.
#[tokio::test]
async fn of_two_listeners_that_overlap_the_first_in_the_file_is_open() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let section = |name: &str, address: &str| {
        Section::new("listener", name).list("address", address).list("allow", "127.0.0.0/8").option("port", 25)
    };
    for (first, second) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")] {
        let mut relay = builder(&provider).address(first).section(section("second", second)).start().await;
        let open = format!("{first}:25");
        let why = format!("listener 'second': listener 'lan' already has {open}");
        for reloads in [false, true] {
            if reloads {
                // The order has changed, and nobody is turned away meanwhile.
                relay.take_away("listener", "lan");
                relay.configure("listener", "lan", |_| section("lan", first));
            }
            let (open, why) = match reloads {
                false => (open.clone(), why.clone()),
                true => (format!("{second}:25"), format!("listener 'lan': listener 'second' already has {second}:25")),
            };
            let ran = ask::run(&relay, if reloads { "reload" } else { "check" }).await;
            assert!(!ran.err.contains("another mail server"), "{ran:?}");
            let there = async { while listening(&relay).await != [open.clone()] {} };
            tokio::time::timeout(SOON, there).await.expect("the first to be open");
            let status = json(&relay, "status").await;
            assert!(status["health"].as_str().unwrap().contains(&why), "{status}");
            finish(begin("127.0.0.1:25".parse().unwrap()).await).await;
            let checked = ask::run(&relay, "check").await;
            assert!(checked.code == 75 && checked.err.contains(&why), "{checked:?}");
        }
        assert!(!relay.log().iter().any(|line| line.contains("another mail server")), "{:?}", relay.log());
        relay.sigterm();
        relay.wait_exit().await;
    }
}

/// The gateway has to close its own socket before root can open the one that replaces it.
#[tokio::test]
async fn root_opens_what_the_gateway_makes_room_for() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let mut relay = builder(&provider).start().await;
    for address in ["0.0.0.0", "127.0.0.1"] {
        relay.configure("listener", "lan", |_| {
            let section = Section::new("listener", "lan").list("address", address).option("port", 25);
            section.list("allow", "127.0.0.0/8")
        });
        let ran = ask::run(&relay, "reload").await;
        assert!(ran.code == 0 && !ran.err.contains("cannot listen"), "{ran:?}");
        let there = async { while listening(&relay).await != [format!("{address}:25")] {} };
        tokio::time::timeout(SOON, there).await.expect("the new address");
        finish(begin("127.0.0.1:25".parse().unwrap()).await).await;
    }
}

#[tokio::test]
async fn an_ipv6_address_that_is_being_checked_is_bound() {
    if !own_network() {
        return;
    }
    if !ip("link add name lan0 type veth peer name lan1") {
        return;
    }
    // The neighbours are asked for longer than the test takes.
    fs::write("/proc/sys/net/ipv6/conf/lan0/dad_transmits", "60").unwrap();
    assert!(ip("link set lan1 up") && ip("link set lan0 up") && ip("address add fd00:99::1/64 dev lan0"));
    let provider = provider().await;
    let lan = Section::new("listener", "net").list("interface", "lan0").option("port", 24);
    let relay = builder(&provider).section(lan).start().await;
    let shown = listening(&relay).await;
    assert!(shown.contains(&"fd00:99::1:24".to_string()), "{shown:?}");
    assert!(!relay.log().iter().any(|line| line.contains("cannot listen")), "{:?}", relay.log());
}

#[tokio::test]
async fn a_reload_gives_back_what_root_did_to_the_secrets() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let relay = builder(&provider).start().await;
    let secrets = relay.dir().join("secrets");
    fs::remove_dir_all(&secrets).unwrap();
    said(&relay, "reload").await;
    assert_eq!((owner(&secrets), mode(&secrets)), (user(), 0o700));
    // A backup that root has unpacked.
    fs::write(secrets.join("provider.password"), "not a password").unwrap();
    fs::set_permissions(secrets.join("provider.password"), fs::Permissions::from_mode(0o600)).unwrap();
    let ran = ask::run(&relay, "reload").await;
    assert!(ran.code == 0 && ran.err.contains("stored for account 'provider', which is no longer"), "{ran:?}");
    assert_eq!(owner(&secrets.join("provider.password")), user());
}

#[tokio::test]
async fn the_hook_is_root_and_nothing_is_left_after_a_kill() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    // What whoever starts the gateway has left open, for all that it starts.
    let _left_open = nix::unistd::dup(fs::File::open("/dev/zero").unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (script, said) = (dir.path().join("hook"), dir.path().join("said"));
    let text = format!(
        "#!/bin/sh\n[ $ACTION = paused ] && echo $(id -u) $SMTPRELAY_ACCOUNT $(ls /proc/self/fd) $(readlink /proc/self/fd/0) >{0}.new && mv {0}.new {0}\n",
        said.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let account = Section::account("mine", &provider);
    let wrong = account.clone().option("password", "wrong");
    let mut relay = builder(&provider).relay_option("hook", script.display()).start().await;
    let helper = children(relay.pid());
    assert_eq!(helper.len(), 1, "one process for the hook");
    assert_eq!(
        (fact(helper[0], "Uid").as_str(), fact(relay.pid(), "Uid")),
        ("0 0 0 0", {
            let (uid, _) = user();
            format!("{uid} {uid} {uid} {uid}")
        })
    );
    // What is open in it: its end of the conversation, twice, and nothing else.
    let open = fs::read_dir(format!("/proc/{}/fd", helper[0])).unwrap();
    let open: Vec<String> = open.map(|fd| fs::read_link(fd.unwrap().path()).unwrap().display().to_string()).collect();
    assert_eq!(open.iter().filter(|link| link.starts_with("socket:")).count(), 2, "{open:?}");
    let null = open.iter().filter(|link| *link == "/dev/null").count();
    assert_eq!((null, open.len()), (2, 4), "{open:?}");
    relay.configure("account", "mine", |_| wrong);
    ask::said(&relay, "reload").await;
    finish(begin(relay.addr()).await).await;
    let there = async {
        while !said.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, there).await.expect("the hook to run");
    let said = fs::read_to_string(&said).unwrap();
    // What is open in the script: input, output, errors, and the directory that ls has open itself.
    assert_eq!(said, "0 mine 0 1 2 3 /dev/null\n");

    // Killed and started again, as procd does it.
    relay.configure("account", "mine", |_| account);
    relay.kill9();
    let gone = async {
        while Path::new(&format!("/proc/{}", helper[0])).exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the process of the hook to end");
    relay.restart().await;
    provider.wait_for_messages(1, SOON).await;
    queue_until(&relay, <[Value]>::is_empty).await;
}

#[tokio::test]
async fn the_queue_of_a_version_that_ran_as_root_is_taken_over() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let (user_of, secret) = (user(), tempfile::NamedTempFile::new().unwrap());
    let closed = |section: Section| section.option("port", 1);
    let mut relay = builder(&provider)
        .relay_option("user", "root")
        .section(Section::new("route", "none").list("account", "mine"))
        .prepare();
    relay.configure("account", "mine", closed);
    relay.spawn();
    relay.wait_until_listening().await;
    assert_eq!(fact(relay.pid(), "Uid"), "0 0 0 0");
    finish(begin(relay.addr()).await).await;
    relay.sigterm();
    relay.wait_exit().await;
    assert_eq!(owner(&relay.safe_spool().join("queue")), (0, 0));
    // Something that does not belong there and leads elsewhere.
    symlink(secret.path(), relay.spool().join("queue/AAAAAAAAAA.msg")).unwrap();
    relay.configure("relay", "main", |section| section.option("user", USER));
    relay.configure("account", "mine", |section| section.option("port", provider.port()));
    relay.restart().await;
    provider.wait_for_messages(1, SOON).await;
    queue_until(&relay, <[Value]>::is_empty).await;
    for path in [relay.spool(), relay.safe_spool(), relay.spool().join("history"), relay.safe_spool().join("queue")] {
        assert_eq!(owner(&path), user_of, "{}", path.display());
    }
    assert_eq!(owner(secret.path()), (0, 0));
}

#[tokio::test]
async fn keys_that_only_root_may_read_work_and_are_renewed_by_a_reload() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let certs = Certs::new();
    let private = tempfile::tempdir().unwrap();
    let (certificate, key, ca) =
        (private.path().join("cert.pem"), private.path().join("key.pem"), private.path().join("ca.pem"));
    let put = |cert: Cert| {
        fs::copy(certs.cert_file(cert), &certificate).unwrap();
        fs::copy(certs.key_file(cert), &key).unwrap();
        for path in [&certificate, &key] {
            fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        }
    };
    put(Cert::Good);
    fs::copy(provider.certs().ca_file(), &ca).unwrap();
    fs::set_permissions(private.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let account = Section::account("mine", &provider).option("ca_file", ca.display());
    let relay = Relay::builder()
        .relay_option("user", USER)
        .listener_option("port", 465)
        .listener_option("tls", "implicit")
        .listener_option("certificate", certificate.display())
        .listener_option("key", key.display())
        .section(account)
        .start()
        .await;
    let mut device = Client::connect(relay.addr()).await;
    device.set_limit(SOON);
    device.start_tls(&certs).await.unwrap();
    device.expect(220).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    provider.wait_for_messages(1, SOON).await;
    // One that the device does not accept shows that it is in use.
    put(Cert::WrongName);
    said(&relay, "reload").await;
    while Client::connect(relay.addr()).await.start_tls(&certs).await.is_ok() {}
}

/// What root has read at the start could not be used, and is not kept against a file that can.
#[tokio::test]
async fn a_corrected_ca_file_needs_no_reload() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let ca = provider.certs().ca_file().with_file_name("corrected.pem");
    fs::write(&ca, "no certificate").unwrap();
    let account = Section::account("mine", &provider).option("ca_file", ca.display());
    let relay = Relay::builder().relay_option("user", USER).section(account).start().await;
    finish(begin(relay.addr()).await).await;
    relay.wait_log(|line| line.contains("event=paused") && line.contains("contains no certificate"), SOON).await;
    fs::copy(provider.certs().ca_file(), &ca).unwrap();
    provider.wait_for_messages(1, SOON).await;
}

#[tokio::test]
async fn what_can_not_be_given_up_is_no_reason_to_go_on() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let mut relay = builder(&provider).relay_option("user", "no-such-user").prepare();
    relay.spawn();
    assert!(!relay.wait_exit().await.success());
    let said = relay.log().join("\n");
    assert!(
        said.contains("the user 'no-such-user' does not exist") && said.contains("reinstall the package"),
        "{said}"
    );
    // A reload without a gateway says so, with the code that means it.
    let ran = ask::run(&relay, "reload").await;
    assert!(ran.code == 69 && ran.err.contains("no gateway is running"), "{ran:?}");
}

#[tokio::test]
async fn secrets_that_others_can_read_are_named() {
    if !own_network() {
        return;
    }
    let provider = provider().await;
    let relay = builder(&provider).start().await;
    let open = format!("run chmod 600 {}", relay.config_path().display());
    assert!(!ask::run(&relay, "check").await.err.contains(&open));
    fs::set_permissions(relay.config_path(), PermissionsExt::from_mode(0o644)).unwrap();
    for command in ["check", "reload"] {
        let ran = ask::run(&relay, command).await;
        assert!(ran.code == 0 && ran.err.contains(&open), "{command}: {ran:?}");
    }
    let warnings = json(&relay, "status").await["settings"]["warnings"].to_string();
    assert!(warnings.contains(&open), "{warnings}");
}
