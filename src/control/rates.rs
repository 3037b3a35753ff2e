//! What happened to the mail of each device with a rate limit, in the list of devices.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::config::device::DEFAULT_DEVICE;
use crate::config::{Device, Settings};
use crate::policy::{Policies, Rates};

/// Adds `rate` to each device of `list`: null if it has no limit. The section of a device is taken from its field
/// `section`; without one, the device is identified by its address alone.
pub fn add(list: &mut Value, settings: &Settings, rates: &Rates) {
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
    use super::*;
    use crate::config::{load, uci};
    use std::time::Duration;

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
        add(&mut list, &settings, &rates);
        let counts =
            |limit: &str, rejected| json!({ "limit": limit, "digested": 0, "deferred": 0, "rejected": rejected });
        let found: Vec<&Value> = list.as_array().unwrap().iter().map(|entry| &entry["rate"]).collect();
        let null = Value::Null;
        assert_eq!(found, [&counts("1/h", 2), &null, &counts("5/m", 0), &counts("1/h", 2), &counts("5/m", 0), &null]);
    }
}
