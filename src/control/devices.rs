// SPDX-License-Identifier: Apache-2.0
//! The method `devices`: what the history contains about each device, which device it is, and what happened to its mail
//! above a rate limit.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::config::device::DEFAULT_DEVICE;
use crate::config::{Device, Settings};
use crate::inbound::accept::{allowed, may_send};
use crate::oauth::Later;
use crate::policy::{Policies, Rates};
use crate::system::interfaces::{self, Address};
use crate::system::leases::{Identity, Leases};

/// Adds to each device of `known` its `name`, its `mac`, its `section` and whether it is `allowed`; `known` comes from
/// the history.
pub fn named<'a>(known: Vec<Value>, settings: Arc<Settings>, leases: &'a Leases) -> Later<'a, Vec<Value>> {
    Box::pin(async move {
        let mut devices = known;
        let addresses: Vec<Option<IpAddr>> = devices.iter().map(address).collect();
        let identities = leases.identities(&addresses).await;
        let (policies, nets) = (Policies::new(&settings), networks(&settings));
        for ((device, ip), identity) in devices.iter_mut().zip(addresses).zip(identities) {
            if let Some(fields) = device.as_object_mut() {
                describe(fields, ip, identity, &policies, &nets);
            }
        }
        devices
    })
}

fn address(device: &Value) -> Option<IpAddr> {
    device.get("client").and_then(Value::as_str)?.parse().ok()
}

fn describe(
    fields: &mut serde_json::Map<String, Value>,
    ip: Option<IpAddr>,
    identity: Identity,
    policies: &Policies,
    nets: &[IpNet],
) {
    let Identity { mac, host } = identity;
    let section = ip.and_then(|ip| policies.device(ip, mac, host.as_deref())).filter(|device| !device.is_default());
    let section = section.map(|device| device.name.clone()).unwrap_or_default();
    // A client without an address is a program on the router itself.
    let allowed = ip.is_none_or(|ip| may_send(ip, nets));
    for (name, value) in [
        ("name", host.unwrap_or_default().into()),
        ("mac", mac.map(|mac| mac.to_string()).unwrap_or_default().into()),
        ("section", section.into()),
        ("allowed", allowed.into()),
    ] {
        fields.insert(name.into(), value);
    }
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
        entry.insert("rate".into(), rate.unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::{load, uci};
    use crate::system::leases::Sources;
    use crate::system::networks::{self, Network};

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
    }

    #[tokio::test]
    async fn an_empty_list_means_the_networks_of_the_listener() {
        // This affects the whole process, so the name is one that no other test uses.
        networks::learned(vec![Network {
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
