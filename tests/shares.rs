// SPDX-License-Identifier: Apache-2.0
//! No device takes from the others what all need: places, descriptors, memory.

mod support;

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use support::ask::SOON;
use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::TimeWarp;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

const TEXT: &str = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\n\r\nalarm\r\n";
/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;
/// Longer than the gateway takes for an answer, in real time.
const QUIET: Duration = Duration::from_millis(25);

fn relay() -> RelayBuilder {
    Relay::builder().durability("memory").section(Section::custom_account("provider", "127.0.0.1", 1, "implicit"))
}

fn device(n: u8) -> IpAddr {
    IpAddr::from([127, 0, 1, n])
}

/// A connection that says nothing.
async fn idle(source: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.bind(SocketAddr::new(source, 0)).unwrap();
    socket.connect(to).await.unwrap()
}

async fn send_from(source: IpAddr, relay: &Relay) {
    send_to(source, relay.addr()).await;
}

async fn send_to(source: IpAddr, to: SocketAddr) {
    let mut client = Client::greeted_from(source, to).await;
    client.dialogue(&[("EHLO plc", 250)]).await;
    assert_eq!(client.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
}

#[tokio::test]
async fn two_devices_do_not_lock_out_a_third() {
    let relay =
        relay().listener_option("max_sessions", 16).listener_option("max_sessions_per_client", 20).start().await;
    let mut crowd = Vec::new();
    for n in [1, 2] {
        for _ in 0..30 {
            crowd.push(idle(device(n), relay.addr()).await);
        }
    }
    send_from(device(3), &relay).await;
    // Of one device four are served, sixteen wait, and the rest is refused.
    for (place, connection) in crowd.iter_mut().enumerate() {
        let code = match place % 30 {
            0..4 => "220",
            4..20 => continue,
            _ => "421",
        };
        assert_eq!(first_code(connection).await, code, "{place}");
    }
    // One that waits is served as soon as one of its own ends, whoever else waits.
    drop(crowd.swap_remove(0));
    assert_eq!(first_code(&mut crowd[4]).await, "220");
}

/// A LAN address of IPv6.
fn lan(n: u16) -> IpAddr {
    IpAddr::from([0xfd00, 0x25, 0, 0, 0, 0, 0, n])
}

/// Gives the test's thread, and what it starts from now on, a network of its own; false without the right to do that.
fn own_network() -> bool {
    // For a client over IPv6 the program looks at its own addresses.
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        println!("skipped: qemu-mips 7.2 hangs in getifaddrs");
        return false;
    }
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        println!("skipped: this needs root and network namespaces");
        return false;
    }
    run("ip link set lo up")
}

/// Runs these commands; false where there is no such program, or no such network device.
fn run(commands: &str) -> bool {
    let ran = Command::new("sh").args(["-ec", commands]).status();
    let done = ran.is_ok_and(|status| status.success());
    if !done {
        println!("skipped: not possible here: {commands}");
    }
    done
}

/// A relay that listens on all addresses of IPv6.
fn relay_of_a_lan() -> RelayBuilder {
    relay().address("::").allow_nobody().allow("fd00:25::/64").allow("::1/128")
}

#[tokio::test]
async fn a_device_leaves_queue_and_logins_to_its_neighbours_in_an_ipv6_network() {
    let addresses = "ip -6 addr add fd00:25::2/64 dev lo nodad; ip -6 addr add fd00:25::3/64 dev lo nodad";
    if !own_network() || !run(addresses) {
        return;
    }
    let user = Section::new("user", "camera").option("password", "right");
    let relay = relay_of_a_lan().relay_option("spool_limit", "200K").listener_option("auth", "optional").section(user);
    let relay = relay.start().await;
    let at = SocketAddr::new(lan(2), relay.addr().port());
    let mut greedy = Client::greeted_from(lan(2), at).await;
    greedy.dialogue(&[("EHLO plc", 250)]).await;
    while greedy.command("MAIL FROM:<plc@example.com>").await.code == 250 {
        greedy.dialogue(&[("RSET", 250)]).await;
        assert_eq!(greedy.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    }
    let mut guessing = Vec::new();
    for _ in 0..40 {
        let mut client = Client::greeted_from(lan(2), at).await;
        // A right one would be 0, camera, 0, right.
        client.write(b"EHLO plc\r\nAUTH PLAIN AGNhbWVyYQB3cm9uZw==\r\n").await.unwrap();
        guessing.push(client);
    }
    // From the first wrong one on, logins of this device have to wait.
    relay.wait_log(|line| line.contains("event=login_failed"), SOON).await;
    let mut other = Client::greeted_from(lan(3), at).await;
    other.dialogue(&[("EHLO plc", 250), ("AUTH PLAIN AGNhbWVyYQByaWdodA==", 235)]).await;
    assert_eq!(other.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
}

#[tokio::test]
async fn a_device_with_many_ipv6_addresses_gets_one_share() {
    if !own_network() {
        return;
    }
    let relay = relay_of_a_lan().listener_option("max_sessions", 16).start().await;
    let here = File::open("/proc/thread-self/ns/net").unwrap();
    // The device is at the other end of a cable.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let gateway = relay.pid();
    let cable = format!(
        "ip link add plc type veth peer name lan netns {gateway}
        nsenter -t {gateway} -n ip -6 addr add fd00:25::1/64 dev lan nodad
        nsenter -t {gateway} -n ip link set lan up
        for n in 2 3 4 5; do ip -6 addr add fd00:25::$n/64 dev plc nodad; done
        ip link set plc up"
    );
    if !run(&cable) {
        return;
    }
    let to = SocketAddr::new(lan(1), relay.addr().port());
    let (greet, mut greeted) = tokio::sync::mpsc::unbounded_channel();
    for n in [2, 3, 4, 5].repeat(4) {
        let (mut connection, greet) = (idle(lan(n), to).await, greet.clone());
        tokio::spawn(async move {
            let code = first_code(&mut connection).await;
            greet.send((code, connection)).unwrap();
        });
    }
    // Any four: the kernel is asked about several at a time.
    let mut served = Vec::new();
    for _ in 0..4 {
        served.push(greeted.recv().await.unwrap());
    }
    setns(&here, CloneFlags::CLONE_NEWNET).unwrap();
    send_to(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), to).await;
    // The others of this device wait for one of its own.
    assert!(greeted.try_recv().is_err());
    served.pop();
    served.push(greeted.recv().await.unwrap());
    assert!(served.iter().all(|(code, _)| code == "220"));
}

#[tokio::test]
async fn sessions_that_are_added_go_to_those_who_wait() {
    let mut relay = relay().listener_option("max_sessions", 4).start().await;
    let mut crowd = Vec::new();
    for _ in 0..4 {
        let mut one = idle(device(1), relay.addr()).await;
        assert_eq!(first_code(&mut one).await, "220");
        crowd.push(one);
    }
    let mut waiting = idle(device(2), relay.addr()).await;
    relay.configure("listener", "lan", |listener| listener.option("max_sessions", 8));
    relay.sighup();
    assert_eq!(first_code(&mut waiting).await, "220");
}

/// Fills the queue as user nobody, and prints what refuses the last message. The argument is the folder of the socket.
const FILL: &str = "
import os, socket, sys
os.chdir(sys.argv[1])
os.setuid(65534)
gateway = socket.socket(socket.AF_UNIX)
gateway.connect('submit.sock')
lines = gateway.makefile('rw', newline='')
def ask(text):
    lines.write(text + '\\r\\n')
    lines.flush()
    return lines.readline()
lines.readline()
reply = '250'
while reply.startswith('250'):
    reply = ask('MAIL FROM:<a@b.c>')
    if reply.startswith('250'):
        ask('RCPT TO:<d@e.f>')
        ask('DATA')
        reply = ask('Subject: x\\r\\n\\r\\nx\\r\\n.')
print(reply)
";

#[tokio::test]
async fn a_user_of_the_router_leaves_room_in_the_queue_to_others() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can be another user");
        return;
    }
    let relay = relay().relay_option("spool_limit", "200K").start().await;
    let filled = tokio::process::Command::new("python3").args(["-c", FILL]).arg(relay.spool()).output().await;
    let filled = filled.expect("python3");
    let reply = String::from_utf8_lossy(&filled.stdout);
    assert!(reply.starts_with("452") && reply.contains("from this client"), "{filled:?}");
    let sent = relay.command_with_input(&["send", "-f", "root@example.com", "ops@example.com"], b"x\n").await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}

async fn first_code(connection: &mut TcpStream) -> String {
    let mut code = [0; 3];
    tokio::time::timeout(SOON, connection.read_exact(&mut code)).await.expect("a reply").unwrap();
    String::from_utf8_lossy(&code).into_owned()
}

#[tokio::test]
async fn who_is_refused_takes_no_place() {
    let relay = relay().listener_option("max_sessions", 2).allow_nobody().allow("127.0.1.3/32").start().await;
    let mut refused = Vec::new();
    for _ in 0..100 {
        refused.push(idle(device(1), relay.addr()).await);
    }
    send_from(device(3), &relay).await;
    for connection in &mut refused {
        assert_eq!(first_code(connection).await, "554");
    }
}

#[tokio::test]
async fn connections_leave_descriptors_for_the_queue() {
    let relay = relay().start().await;
    let limit = ["--nofile=128:128", "--pid", &relay.pid().to_string()].map(str::to_owned);
    let limited = std::process::Command::new("prlimit").args(limit).status();
    assert!(limited.expect("prlimit, of util-linux").success());
    let mut devices = Vec::new();
    for n in [1, 2] {
        for _ in 0..60 {
            devices.push(idle(device(n), relay.addr()).await);
        }
    }
    let programs: Vec<UnixStream> =
        (0..60).map(|_| UnixStream::connect(relay.spool().join("submit.sock")).unwrap()).collect();
    send_from(device(3), &relay).await;
    let status = support::ask::json(&relay, "status").await;
    assert_eq!(status["queue"]["messages"], 1, "{status}");
    drop((devices, programs));
}

/// A device whose text, command or session takes time, in simulated time.
async fn in_time(time: &TimeWarp) -> Option<(Relay, Client)> {
    let relay = time.around(relay()).start().await;
    if !time.rule(&relay) {
        return None;
    }
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    Some((relay, device))
}

/// Sends `piece` again and again, `gap` in between; gives how often that was before the session ended.
async fn drip(time: &TimeWarp, device: &mut Client, piece: &[u8], gap: Duration, most: usize) -> usize {
    for sent in 0..most {
        if device.write(piece).await.is_err() {
            return sent;
        }
        time.advance(gap, QUIET).await;
    }
    most
}

async fn aborted(relay: &Relay, why: &str) {
    let fits = |line: &str| field(line, "event") == Some("aborted") && line.contains(why);
    relay.wait_log(fits, Duration::from_secs(20)).await;
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_hold_a_session() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let Some((relay, mut device)) = in_time(&time).await else { return };
    drip(&time, &mut device, b"x", Duration::from_secs(2), 40).await;
    aborted(&relay, "one command took longer than 60 s").await;

    let Some((relay, mut device)) = in_time(&time).await else { return };
    device.dialogue(&[("MAIL FROM:<a@b.c>", 250), ("RCPT TO:<d@e.f>", 250), ("DATA", 354)]).await;
    drip(&time, &mut device, b"x", Duration::from_secs(10), 40).await;
    aborted(&relay, "sent the message too slowly").await;

    let Some((relay, mut device)) = in_time(&time).await else { return };
    drip(&time, &mut device, b"NOOP\r\n", Duration::from_secs(100), 8).await;
    aborted(&relay, "no message was accepted in this session for 600 s").await;
}

#[tokio::test]
async fn slow_but_honest_devices_get_their_messages_in() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let Some((_relay, mut device)) = in_time(&time).await else { return };
    device.set_limit(SOON);
    // Two hours in one session, a message every eight minutes.
    for _ in 0..15 {
        assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
        for _ in 0..2 {
            time.advance(Duration::from_secs(240), QUIET).await;
            device.dialogue(&[("NOOP", 250)]).await;
        }
    }
    // A text of seven minutes at 100 bytes a second.
    device.dialogue(&[("MAIL FROM:<a@b.c>", 250), ("RCPT TO:<d@e.f>", 250), ("DATA", 354)]).await;
    let piece = format!("{}\r\n", "x".repeat(998));
    assert_eq!(drip(&time, &mut device, piece.as_bytes(), Duration::from_secs(10), 42).await, 42);
    assert_eq!(device.command(".").await.code, 250);
}

#[tokio::test]
async fn replies_that_nobody_reads_do_not_fill_memory() {
    const DEVICES: usize = 40;
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let relay = Relay::builder().durability("memory").section(Section::account("provider", &provider)).start().await;
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        println!("skipped: an emulator's memory says nothing about the program's");
        return;
    }
    // Without code: of that, what does not run is put aside after a burst.
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let before = resident();
    let mut flooding = Vec::new();
    for n in 0..DEVICES {
        let socket = TcpSocket::new_v4().unwrap();
        // Replies stay with the gateway as soon as may be.
        socket.set_recv_buffer_size(2048).unwrap();
        socket.bind(SocketAddr::new(device(u8::try_from(n + 10).unwrap()), 0)).unwrap();
        let connection = socket.connect(relay.addr()).await.unwrap();
        // As much as it takes: it stops to read when it can't write.
        let (unread, mut out) = connection.into_split();
        let flood = b"EHLO\r\n".repeat(100_000);
        let writing = tokio::io::AsyncWriteExt::write_all(&mut out, &flood);
        let _ = tokio::time::timeout(Duration::from_millis(500), writing).await;
        flooding.push((unread, out));
    }
    // Until it has come to rest.
    let mut most = 0;
    let mut quiet = 0;
    while quiet < 3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        quiet = if resident() > most { 0 } else { quiet + 1 };
        most = most.max(resident());
    }
    let grown = most.saturating_sub(before) / DEVICES;
    println!("{grown} KB a connection");
    assert!(grown < 64, "{grown} KB a connection");
    send_from(device(3), &relay).await;
}

#[tokio::test]
async fn who_reads_no_answer_of_the_control_socket_is_disconnected() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let relay = time.around(relay()).start().await;
    if !time.rule(&relay) {
        return;
    }
    let mut deaf = tokio::net::UnixStream::connect(relay.spool().join("control.sock")).await.unwrap();
    let flood = b"{\"method\":\"status\"}\n".repeat(20_000);
    // As much as it takes.
    let writing = tokio::io::AsyncWriteExt::write_all(&mut deaf, &flood);
    let _ = tokio::time::timeout(Duration::from_millis(500), writing).await;
    let gone = || deaf.try_write(b"\n").is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
    let took = time.advance_until(Duration::from_secs(7000), Duration::from_secs(70), QUIET, gone).await;
    assert!(took.is_some());
}

#[tokio::test]
async fn a_device_that_never_reads_a_reply_gets_its_message_in() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let relay = time.around(relay()).start().await;
    if !time.rule(&relay) {
        return;
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let connection = socket.connect(relay.addr()).await.unwrap();
    // Far more replies than the kernel keeps.
    let flood = b"EHLO plc\r\n".repeat(50_000);
    let message = format!("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n{TEXT}.\r\n");
    let (_unread, mut out) = connection.into_split();
    let writing = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut out, &flood).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut out, message.as_bytes()).await.unwrap();
        out
    });
    let accepted = || relay.log().iter().any(|line| field(line, "event") == Some("accepted"));
    let took = time.advance_until(Duration::from_secs(200), Duration::from_secs(10), QUIET, accepted).await;
    assert!(took.is_some(), "{:?}", relay.log());
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn what_a_device_does_at_will_is_logged_once_and_counted() {
    let mut relay = relay().allow_nobody().allow("127.0.1.3/32").start().await;
    for _ in 0..300 {
        let mut connection = idle(device(1), relay.addr()).await;
        assert_eq!(first_code(&mut connection).await, "554");
    }
    let mut client = Client::greeted_from(device(3), relay.addr()).await;
    client.dialogue(&[("EHLO plc", 250), ("MAIL FROM:<a@b.c>", 250)]).await;
    for _ in 0..50 {
        client.dialogue(&[("RCPT TO:<nobody>", 550)]).await;
    }
    relay.sigterm();
    relay.wait_exit().await;
    for (event, times) in [("refused", 299), ("rejected", 49)] {
        let log = relay.log();
        let lines: Vec<&String> = log.iter().filter(|line| field(line, "event") == Some(event)).collect();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert_eq!(field(lines[1], "times"), Some(times.to_string().as_str()));
    }
}

#[tokio::test]
async fn text_of_devices_can_not_turn_lines_around() {
    let mut relay = relay().start().await;
    let mut client = Client::greeted_from(device(3), relay.addr()).await;
    client.dialogue(&[("EHLO plc\u{202e}gnp", 250)]).await;
    assert_eq!(client.send("a@b.c", &["ops@example.com"], "Subject: bill\u{202e}fdp.exe\r\n\r\nx\r\n").await.code, 250);
    relay.wait_log(|line| line.contains("event=accepted") && line.contains("plc<U+202E>gnp"), SOON).await;
    for command in ["devices", "queue"] {
        let said = support::ask::said(&relay, &format!("{command} --json")).await;
        assert!(said.contains("ops@example.com") && !said.contains('\u{202e}'), "{said}");
    }
    assert!(!relay.log().iter().any(|line| line.contains('\u{202e}')));
    // Nor do they in the queue of a gateway that is not running.
    assert_eq!(client.send("a@b.c", &["ops\u{202e}@example.com"], "Subject: x\r\n\r\nx\r\n").await.code, 250);
    relay.sigterm();
    relay.wait_exit().await;
    for command in ["queue", "queue --json"] {
        let said = support::ask::said(&relay, command).await;
        assert!(said.contains("ops<U+202E>@example.com") && !said.contains('\u{202e}'), "{said}");
    }
}
