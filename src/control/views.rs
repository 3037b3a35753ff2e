// SPDX-License-Identifier: Apache-2.0
//! How messages, accounts and devices are described to people and programs: the same for every interface.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use crate::config::device::DEFAULT_DEVICE;
use crate::config::{Account, Device, Settings, TlsMode};
use crate::dispatch::{AccountHealth, Expected, Health, Moment, Planned, Standing, WAITS_FOR_MAIL};
use crate::inbound::accept::{allowed, may_send};
use crate::oauth::{Later, keeper};
use crate::policy::{Policies, Rates};

use crate::queue::{Attempt, Meta, Note, Progress, State, StepNote, StepProgress};
use crate::report::{History, subject};
use crate::system::clock;
use crate::system::interfaces::{self, Address};
use crate::system::json::{json, put};
use crate::system::leases::{Identity, Leases};

/// The word for the state of a recipient.
fn word(progress: Progress) -> &'static str {
    match progress {
        Progress::Waiting => "waiting",
        Progress::Delivered => "delivered",
        Progress::Failed => "failed",
    }
}

/// The word for the state of a message.
pub fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Due => "due",
        Standing::In(_) | Standing::Resting(_) | Standing::Planned(_) => "later",
        Standing::Held => "held",
        Standing::InHand => "sending",
    }
}

/// A message with this `header`. `now` says where it is in the schedule and why nothing is being sent, if the gateway is running.
pub fn message(
    id: &str,
    meta: &Meta,
    state: &State,
    header: &[u8],
    size: u64,
    now: Option<(Standing, Option<&str>)>,
) -> Value {
    let arrived = state.arrived.unwrap_or(meta.arrived);
    let recipients: Vec<Value> = state
        .recipients
        .iter()
        .map(|r| json!({ "address": r.address, "state": word(r.progress), "reply": r.text }))
        .collect();
    let mut value = json!({
        "id": id,
        "arrived": arrived,
        "age": clock::age(arrived),
        "size": size,
        "client": meta.client,
        "section": meta.marks.device,
        "from": meta.envelope.from,
        "subject": subject::of(header),
        "recipients": recipients,
        "attempts": state.attempts,
        "held": state.held,
        "doubts": state.doubts(),
        "notice": meta.notice,
        "why": why(meta, state, now),
    });
    if let Some(((at, _), fields)) = now.zip(value.as_object_mut()) {
        put(fields, "standing", standing(at));
        if let Standing::In(wait) | Standing::Resting(wait) | Standing::Planned(wait) = at {
            put(fields, "next", &wait.as_secs());
        }
    }
    value
}

/// Why the administrator finds it in the queue after having held it.
const HELD: &str = "it is held: release it with smtprelay queue release";

/// Why a message is still in the queue that has failed for all recipients.
const STEPS_ONLY: &str = "its delivery has failed; the steps of its escalation continue";

/// What is planned for a message: the accounts that try it as steps of its escalation, and the step that begins next.
pub fn planned(plan: &Planned) -> Value {
    let next = plan.next.as_ref().map(|(account, wait)| json!({ "account": account, "next": wait.as_secs() }));
    json!({ "tried": plan.tried, "step": next })
}

/// Why it is still in the queue, in one sentence.
fn why(meta: &Meta, state: &State, now: Option<(Standing, Option<&str>)>) -> String {
    let last = state.recipients.iter().find(|r| r.progress == Progress::Waiting && !r.text.is_empty());
    let last = last.map(|r| r.text.clone());
    match now {
        // By the administrator: the gateway itself holds it only when nobody is left to be tried.
        _ if state.held && state.to_try().next().is_some() => HELD.into(),
        _ if state.is_doubtful() => state.doubt(),
        _ if state.held => HELD.into(),
        Some((Standing::InHand, _)) => "it is being sent right now".into(),
        Some((Standing::Resting(left), _)) if let Some(over) = &meta.marks.over => {
            over.why(meta.marks.device.as_deref().unwrap_or_default(), left)
        }
        Some((Standing::Planned(_), _)) if state.is_done() => last.unwrap_or_else(|| STEPS_ONLY.into()),
        Some((Standing::Planned(_), _)) => WAITS_FOR_MAIL.into(),
        Some((_, Some(paused))) => paused.to_string(),
        Some((Standing::Due, None)) => last.unwrap_or_else(|| "it is ready to be sent".into()),
        Some(_) => last.unwrap_or_else(|| "it waits for its next attempt".into()),
        None => last.unwrap_or_else(|| "smtprelay is not running; the message will be sent at the next start".into()),
    }
}

/// What has happened to a message so far.
pub fn notes(notes: &[Note]) -> Vec<Value> {
    notes
        .iter()
        .map(|note| match note {
            Note::Attempt(Attempt { at, results, .. }) => {
                let results: Vec<Value> = results
                    .iter()
                    .map(|(recipient, progress, text)| {
                        json!({ "recipient": recipient, "state": word(*progress), "reply": text })
                    })
                    .collect();
                json!({ "what": "tried", "at": at, "results": results })
            }
            Note::Held(true) => json!({ "what": "held" }),
            Note::Held(false) => json!({ "what": "released" }),
            Note::Released(at) => json!({ "what": "released", "at": at }),
            Note::Arrived(at) => json!({ "what": "time of arrival corrected", "to": at }),
            Note::Late(at) => json!({ "what": "delay to be reported in a summary", "at": at }),
            Note::Warned(at) => json!({ "what": "sender notified of the delay", "at": at }),
            Note::Told(at, _) => json!({ "what": "failure reported", "at": at }),
            Note::Doubt(at, _) => json!({ "what": "sent, outcome unknown", "at": at }),
            Note::Asked(at, _) => json!({ "what": "reported that it is held", "at": at }),
            Note::Step(StepNote { at, account, progress, text }) => {
                let what = match progress {
                    StepProgress::Begun => "escalated",
                    StepProgress::Doubtful => "step sent, outcome unknown",
                    StepProgress::Taken => "step taken",
                    StepProgress::Failed => "step failed",
                };
                json!({ "what": what, "at": at, "account": account, "reply": text })
            }
            Note::Alone(at) => json!({ "what": "sent by itself", "at": at }),
        })
        .collect()
}

/// Adds to each entry of `list` the name of its `client` as `device`: as configured, else from its DHCP request, else
/// empty. `sections` are those that applied to the clients before, for what the entries themselves do not say: they count
/// while a MAC address is not known, because the kernel forgets it soon after the last packet.
pub fn add_names<'a>(
    list: &'a mut [Value],
    sections: Vec<String>,
    settings: &'a Settings,
    leases: &'a Leases,
) -> Later<'a, ()> {
    Box::pin(async move {
        let addresses: Vec<Option<IpAddr>> = list.iter().map(address).collect();
        let identities = leases.identities(&addresses).await;
        let policies = Policies::new(settings);
        let mut sections = sections.into_iter();
        for ((entry, ip), identity) in list.iter_mut().zip(addresses).zip(identities) {
            let before = sections.next().unwrap_or_default();
            let Some(fields) = entry.as_object_mut() else { continue };
            let own = fields.get("section").and_then(Value::as_str).filter(|name| !name.is_empty()).map(String::from);
            let section = section(&policies, ip, &identity, own.as_deref().unwrap_or(&before));
            let name = section.map(Device::title).map(String::from).or(identity.host);
            put(fields, "device", &name.unwrap_or_default());
        }
    })
}

/// The section with which a client is configured: what applies to it now, or, while its MAC address is not known, what
/// applied `before`.
fn section<'a>(policies: &'a Policies, ip: Option<IpAddr>, identity: &Identity, before: &str) -> Option<&'a Device> {
    let now = ip.and_then(|ip| policies.device(ip, identity.mac, identity.host.as_deref()));
    let now = now.filter(|device| !device.is_default());
    now.or_else(|| policies.device_named(before).filter(|_| identity.mac.is_none()))
}

/// Adds to each device of `known` its name as `device`, the `name` from its DHCP request, its `mac`, its `section` and whether it is `allowed`; `known` comes from
/// the history.
pub fn named<'a>(known: Vec<Value>, settings: Arc<Settings>, leases: &'a Leases) -> Later<'a, Vec<Value>> {
    Box::pin(async move {
        let mut devices = known;
        let addresses: Vec<Option<IpAddr>> = devices.iter().map(address).collect();
        let identities = leases.identities(&addresses).await;
        let (policies, nets) = (Policies::new(&settings), networks(&settings));
        for ((device, ip), identity) in devices.iter_mut().zip(addresses).zip(identities) {
            let Some(fields) = device.as_object_mut() else { continue };
            let before = fields.get("section").and_then(Value::as_str).unwrap_or_default().to_string();
            let section = section(&policies, ip, &identity, &before);
            let Identity { mac, host } = identity;
            let shown = section.map(Device::title).or(host.as_deref()).unwrap_or_default();
            put(fields, "device", &shown);
            put(fields, "name", host.as_deref().unwrap_or_default());
            put(fields, "mac", &mac.map(|mac| mac.to_string()).unwrap_or_default());
            put(fields, "section", section.map(|device| device.name.as_str()).unwrap_or_default());
            // A client without an address is a program on the router itself.
            put(fields, "allowed", &ip.is_none_or(|ip| may_send(ip, &nets)));
        }
        devices
    })
}

fn address(device: &Value) -> Option<IpAddr> {
    device.get("client").and_then(Value::as_str)?.parse().ok()
}

/// The networks that are currently allowed to send through any listener.
fn networks(settings: &Settings) -> Vec<IpNet> {
    // The kernel is asked only if needed; by the names of the settings, as the listeners do.
    let host: Vec<Address> = match settings.listeners.iter().any(|listener| listener.allow.is_empty()) {
        true => interfaces::named(),
        false => Vec::new(),
    };
    settings.listeners.iter().flat_map(|listener| allowed(listener, &host)).collect()
}

/// Adds `rate` to each device of `list`: null if it has no limit. The section of a device is taken from its field
/// `section`; without one, the device is identified by its address alone.
pub fn add_rates(list: &mut Value, settings: &Settings, rates: &Rates) {
    let policies = Policies::new(settings);
    let section = |name: &str| policies.device_named(if name.is_empty() { DEFAULT_DEVICE } else { name });
    for entry in list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        let client: Option<IpAddr> = entry.get("client").and_then(Value::as_str).and_then(|ip| ip.parse().ok());
        let device = match (entry.get("section").and_then(Value::as_str), client) {
            (Some(name), _) => section(name),
            (None, Some(ip)) => policies.device(ip, None, None),
            (None, None) => None,
        };
        let rate = device.zip(client).and_then(|(device, client)| rate(device, client, rates));
        put(entry, "rate", &rate);
    }
}

fn rate(device: &Device, client: IpAddr, rates: &Rates) -> Option<Value> {
    let counts = rates.counts(device, client);
    Some(json!({
        "limit": device.rate?.to_string(),
        "digested": counts.digested,
        "deferred": counts.deferred,
        "rejected": counts.rejected,
    }))
}

/// A device that is expected to send. `silent` counts only while the gateway runs.
pub fn expected(device: &Expected) -> Value {
    json!({
        "name": device.name,
        "device": device.title,
        "every": device.every.as_secs(),
        "silent": device.silent.as_secs(),
        "last_heard": device.last.and_then(Moment::wall),
        "overdue": device.overdue.is_some(),
        "overdue_since": device.overdue.and_then(Moment::wall),
    })
}

/// Whether the account has its secret. Reads a file for accounts with an OAuth login.
pub fn secret(account: &Account) -> &'static str {
    let there = match (&account.username, &account.oauth) {
        _ if account.misses_password() => false,
        _ if account.channel.is_some() && account.password.is_empty() => return "none",
        _ if account.channel.is_some() => true,
        (None, _) => return "none",
        (Some(_), None) => !account.password.is_empty(),
        (Some(_), Some(_)) => keeper::signed_in(account),
    };
    if there { "set" } else { "missing" }
}

/// Why no mail can be sent, if none of the `general` accounts has its secret: it need not wait for the first message that
/// is refused. `secrets` has an entry for each account.
pub fn locked_out(settings: &Settings, general: &[usize], secrets: &[&str]) -> Option<(String, Option<Duration>)> {
    let misses = |place: &usize| secrets.get(*place).is_some_and(|secret| *secret == "missing");
    let account = settings.accounts.get(*general.first()?)?;
    let why = match &account.oauth {
        None => account.password_warning(),
        Some(_) => format!("account '{0}' is not signed in: run smtprelay login {0}", account.name),
    };
    general.iter().all(misses).then_some((why, None))
}

/// An account: its settings, whether it works, and when it last did.
pub fn account(account: &Account, secret: &str, health: &Health, history: &History) -> Value {
    let is_it = |known: &&AccountHealth| known.name == account.name;
    let paused = health.accounts.iter().find(is_it).and_then(|known| known.pause.as_ref()).map(|pause| {
        let remedy = Some(&pause.remedy).filter(|remedy| !remedy.is_empty());
        let (since, next) = (pause.since.as_secs(), pause.next.unwrap_or_default().as_secs());
        json!({ "reason": pause.reason, "remedy": remedy, "since": since, "next": next })
    });
    let auth = match (&account.username, &account.oauth) {
        _ if account.channel.is_some() && (account.misses_password() || !account.password.is_empty()) => "token",
        _ if account.misses_password() => "password",
        (None, _) => "none",
        (Some(_), None) => "password",
        (Some(_), Some(_)) => "xoauth2",
    };
    let tls = match account.tls {
        TlsMode::Implicit => "implicit",
        TlsMode::StartTls => "starttls",
        TlsMode::None => "none",
    };
    let mut view = json!({
        "name": account.name,
        "provider": account.provider,
        "host": account.host,
        "port": account.port,
        "tls_mode": tls,
        "from": account.from,
        "username": account.shown_username(),
        "auth": auth,
        "secret": secret,
        "paused": paused,
        "last": history.last(Some(&account.name)),
        "failed_test": history.failed_test(&account.name),
    });
    if let (Some(channel), Some(fields)) = (&account.channel, view.as_object_mut()) {
        put(fields, "service", channel.service.as_str());
    }
    view
}

/// The state of the gateway, for programs.
pub fn health_word(settings: &Settings, health: &Health) -> &'static str {
    match &health.paused {
        _ if settings.accounts.is_empty() => "no_account",
        Some(_) => "paused",
        None => "relaying",
    }
}

/// The state of the gateway, in one line.
pub fn health_sentence(settings: &Settings, health: &Health) -> String {
    let waiting = match health.waiting {
        0 => "no messages waiting".to_string(),
        1 => "1 message waiting".to_string(),
        n => format!("{n} messages waiting"),
    };
    let waiting = match health.held {
        0 => waiting,
        held => format!("{waiting} ({held} held: smtprelay queue says why)"),
    };
    match &health.paused {
        _ if settings.accounts.is_empty() => {
            format!(
                "Not relaying, {waiting}: no account is set up; set provider, username and password of a section account"
            )
        }
        Some((reason, Some(next))) => {
            format!("Not relaying, {waiting}, next attempt in {} s: {reason}", next.as_secs())
        }
        Some((reason, None)) => format!("Not relaying, {waiting}: {reason}"),
        None => format!("Relaying; {waiting}."),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{load, uci};
    use crate::system::interfaces::Network;
    use crate::system::leases::Sources;

    #[tokio::test]
    async fn each_device_gets_its_name_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let leases = dir.path().join("dhcp.leases");
        let lines =
            "1795395723 00:11:22:aa:bb:cc 192.168.1.20 plc-7 *\n1795395723 02:00:00:00:00:33 192.168.1.21 * *\n";
        std::fs::write(&leases, lines).unwrap();
        let leases = Leases::new(Sources { neighbours: dir.path().join("arp"), netlink: false, leases: vec![leases] });
        let text = "config listener 'lan'\n list address '0.0.0.0'\n list allow '192.168.1.0/27'\n\
                    config device 'default'\n option name 'Any'\nconfig device 'pump'\n list host 'PLC-7'\n";
        let settings = load::settings(&uci::parse(text.as_bytes()).unwrap()).0;
        let clients = ["192.168.1.20", "192.168.1.21", "192.168.1.77", "local"];
        let known: Vec<Value> = clients.iter().map(|client| json!({ "client": client, "helo": "x" })).collect();
        let found = named(known, Arc::new(settings), &leases).await;
        let facts = |device: &Value| ["name", "mac", "section", "allowed"].map(|field| device[field].clone());
        assert_eq!(facts(&found[0]), [json!("plc-7"), json!("00:11:22:aa:bb:cc"), json!("pump"), json!(true)]);
        assert_eq!(facts(&found[1]), [json!(""), json!("02:00:00:00:00:33"), json!(""), json!(true)]);
        assert_eq!(facts(&found[2]), [json!(""), json!(""), json!(""), json!(false)]);
        assert_eq!(facts(&found[3]), [json!(""), json!(""), json!(""), json!(true)]);
        assert_eq!(found[0]["helo"], json!("x"));
        let names = found.iter().map(|device| device["device"].clone()).collect::<Vec<_>>();
        assert_eq!(names, [json!("pump"), json!(""), json!(""), json!("")], "what a device says in HELO is not a name");
    }

    #[tokio::test]
    async fn a_device_keeps_its_name_when_its_hardware_address_is_no_longer_known() {
        let dir = tempfile::tempdir().unwrap();
        let arp = dir.path().join("arp");
        let text = "config device 'boiler'\n option name 'Boiler, cellar'\n list mac '00:11:22:aa:bb:cc'\n";
        let settings = Arc::new(load::settings(&uci::parse(text.as_bytes()).unwrap()).0);
        let leases = || Leases::new(Sources { neighbours: arp.clone(), netlink: false, leases: Vec::new() });
        let known = || vec![json!({ "client": "192.168.1.20", "section": "boiler" })];
        let entries = || vec![json!({ "client": "192.168.1.20" }), json!({ "client": "local", "section": null })];
        let (gone, mut list) = (leases(), entries());
        add_names(&mut list, vec!["boiler".into(), String::new()], &settings, &gone).await;
        assert_eq!((&list[0]["device"], &list[1]["device"]), (&json!("Boiler, cellar"), &json!("")));
        let devices = named(known(), Arc::clone(&settings), &gone).await;
        assert_eq!((&devices[0]["device"], &devices[0]["section"]), (&json!("Boiler, cellar"), &json!("boiler")));
        // A message says itself to which section it belongs.
        let mut message = vec![json!({ "client": "192.168.1.99", "section": "boiler" })];
        add_names(&mut message, Vec::new(), &settings, &gone).await;
        assert_eq!(message[0]["device"], "Boiler, cellar");
        // Another device has the address now.
        std::fs::write(&arp, "IP HW\n192.168.1.20 0x1 0x2 02:00:00:00:00:33 * br-lan\n").unwrap();
        let devices = named(known(), settings, &leases()).await;
        assert_eq!((&devices[0]["device"], &devices[0]["section"]), (&json!(""), &json!("")));
    }

    #[tokio::test]
    async fn an_empty_list_means_the_networks_of_the_listener() {
        // This affects the whole process, so the name is one that no other test uses.
        interfaces::learned(vec![Network {
            name: "plant-floor".into(),
            device: String::new(),
            up: true,
            addresses: vec!["10.201.0.1/24".parse().unwrap()],
        }]);
        let settings = "config listener 'lan'\n list interface 'plant-floor'\n";
        let settings = Arc::new(load::settings(&uci::parse(settings.as_bytes()).unwrap()).0);
        let leases = Leases::new(Sources { neighbours: "/nonexistent".into(), netlink: false, leases: Vec::new() });
        let known = ["10.201.0.9", "10.202.0.9"].map(|client| json!({ "client": client })).to_vec();
        let found = named(known, settings, &leases).await;
        assert_eq!((&found[0]["allowed"], &found[1]["allowed"]), (&json!(true), &json!(false)));
    }

    #[test]
    fn without_a_secret_nothing_is_relayed() {
        let account =
            |name: &str| format!("config account '{name}'\n option host 'h'\n option username 'me@example.com'\n");
        let text = account("first")
            + &account("second")
            + "config route 'r'\n list recipient_domain 'x.org'\n list account 'second'\n";
        let settings = load::settings(&uci::parse(text.as_bytes()).unwrap()).0;
        let why = |general: &[usize], secrets: &[&str]| locked_out(&settings, general, secrets).map(|(why, _)| why);
        let said = why(&[0], &["missing", "set"]).unwrap();
        assert!(said.contains("'first' has no password") && said.contains("smtprelay password first"), "{said}");
        assert!(why(&[0, 1], &["missing", "missing"]).is_some());
        for (general, secrets) in
            [(&[0, 1][..], ["missing", "set"]), (&[0], ["set", "missing"]), (&[], ["missing", "missing"])]
        {
            assert_eq!(why(general, &secrets), None, "{general:?} {secrets:?}");
        }
        let health = Health { paused: locked_out(&settings, &[0], &["missing", "set"]), ..Health::default() };
        assert_eq!(health_word(&settings, &health), "paused");
        assert!(health_sentence(&settings, &health).starts_with("Not relaying, no messages waiting: account 'first'"));
    }

    #[test]
    fn each_device_with_a_rate_has_its_counts() {
        let text = "config device 'plc'\n list ip '10.0.0.7'\n option rate '1/h'\n option over_rate 'reject'\n\
                    config device 'free'\n list ip '10.0.0.8'\nconfig device 'default'\n option rate '5/m'\n";
        let settings = load::settings(&uci::parse(text.as_bytes()).unwrap()).0;
        let mut rates = Rates::default();
        for _ in 0..3 {
            rates.take(&settings.devices[0], "10.0.0.7".parse().unwrap(), Duration::from_secs(9));
        }
        let mut list = json!([
            { "client": "10.0.0.7" },
            { "client": "10.0.0.8" },
            { "client": "10.0.0.9" },
            { "client": "10.0.0.9", "section": "plc" },
            { "client": "10.0.0.9", "section": "" },
            { "client": "local" },
        ]);
        add_rates(&mut list, &settings, &rates);
        let counts =
            |limit: &str, rejected| json!({ "limit": limit, "digested": 0, "deferred": 0, "rejected": rejected });
        let found: Vec<&Value> = list.as_array().unwrap().iter().map(|entry| &entry["rate"]).collect();
        let null = Value::Null;
        assert_eq!(found, [&counts("1/h", 2), &null, &counts("5/m", 0), &counts("1/h", 2), &counts("5/m", 0), &null]);
    }
}
