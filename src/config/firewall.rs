// SPDX-License-Identifier: Apache-2.0
//! Checks OpenWrt's firewall: whether a listener is reachable from outside.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::uci::{self, Package, Section};
use super::{Listener, Settings};

/// The configuration file of the firewall.
pub const FILE: &str = "/etc/config/firewall";

/// Reads the firewall configuration. Blocks, and may need root. `None` without a readable file.
pub fn read(file: &Path) -> Option<Package> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(uci::MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    uci::parse(&bytes).ok()
}

/// Reads the firewall configuration of this router, if permitted. Blocks.
pub fn look(settings: &Settings) -> Vec<String> {
    read(Path::new(FILE)).map(|firewall| notes(&firewall, settings)).unwrap_or_default()
}

/// Advice for the administrator: a note for each listener that is reachable from outside.
pub fn notes(firewall: &Package, settings: &Settings) -> Vec<String> {
    let note = |listener: &Listener| Some(format!("listener '{}': {}", listener.name, note(firewall, listener)?));
    settings.listeners.iter().filter_map(note).collect()
}

/// Advice about this listener: one of its networks is in an upstream firewall zone (its
/// name is `wan`, or it masquerades) that accepts input. `None` if the firewall is fine.
pub fn note(firewall: &Package, listener: &Listener) -> Option<String> {
    let everywhere = listener.addresses.iter().any(std::net::IpAddr::is_unspecified);
    let listens = |network: &String| everywhere || listener.interfaces.contains(network);
    let open = firewall.of_kind("zone").filter(|zone| is_open(firewall, zone));
    let (zone, network) =
        open.filter_map(|zone| Some((text(zone, "name"), networks(zone).into_iter().find(listens)?))).next()?;
    Some(format!(
        "network {network} is in firewall zone {zone}, which accepts connections from outside: outsiders can reach \
         port {}. Set option input of that zone to REJECT, or use another network",
        listener.port
    ))
}

fn text(section: &Section, option: &str) -> String {
    section.get(option).map(|option| option.value.text().into_owned()).unwrap_or_default()
}

/// A list may also be written as one option separated by spaces.
fn networks(zone: &Section) -> Vec<String> {
    let values = ["network", "device"].map(|option| text(zone, option));
    values.iter().flat_map(|value| value.split_whitespace()).map(str::to_string).collect()
}

fn is_open(firewall: &Package, zone: &Section) -> bool {
    let off =
        |section: &Section| matches!(text(section, "enabled").as_str(), "0" | "no" | "off" | "false" | "disabled");
    let yes = |value: &str| matches!(value, "1" | "yes" | "on" | "true" | "enabled");
    let outwards = text(zone, "name") == "wan" || yes(&text(zone, "masq"));
    let input = Some(text(zone, "input")).filter(|input| !input.is_empty());
    let defaults = || firewall.of_kind("defaults").next().map(|section| text(section, "input")).unwrap_or_default();
    outwards && !off(zone) && input.unwrap_or_else(defaults).eq_ignore_ascii_case("accept")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn noted(firewall: &str, listener: &str) -> Option<String> {
        let listener = uci::parse(format!("config listener 'l'\n{listener}").as_bytes()).unwrap();
        let (settings, _) = load::settings(&listener);
        note(&uci::parse(firewall.as_bytes()).unwrap(), &settings.listeners[0])
    }

    /// The default of OpenWrt, with the given input of wan.
    fn usual(input: &str) -> String {
        format!(
            "config defaults\n\toption input REJECT\nconfig zone\n\toption name lan\n\tlist network 'lan'\n\toption input \
             ACCEPT\nconfig zone\n\toption name wan\n\tlist network 'wan'\n\tlist network 'wan6'\n\t{input}\n\toption \
             masq 1\n"
        )
    }

    #[test]
    fn a_zone_that_accepts_from_outside_is_noted() {
        let open = usual("option input ACCEPT");
        assert_eq!(noted(&open, "list interface lan"), None);
        let note = noted(&open, "list interface lan\nlist interface wan6").unwrap();
        assert!(note.contains("network wan6") && note.contains("zone wan") && note.contains("port 25"), "{note}");
        assert!(noted(&open, "list address 0.0.0.0").is_some(), "everywhere is outside too");
        assert_eq!(noted(&open, "list address 192.168.1.1"), None);
    }

    #[test]
    fn a_closed_zone_is_fine_and_the_defaults_hold_where_a_zone_says_nothing() {
        assert_eq!(noted(&usual("option input REJECT"), "list interface wan"), None);
        assert_eq!(noted(&usual(""), "list interface wan"), None);
        let open = usual("").replace("option input REJECT", "option input ACCEPT");
        assert!(noted(&open, "list interface wan").is_some());
        assert_eq!(noted("", "list interface wan"), None);
    }

    #[test]
    fn a_zone_that_masquerades_looks_outwards_whatever_its_name() {
        let zone = |more: &str| {
            format!("config zone\n\toption name lte\n\toption network 'a wwan'\n\toption input accept\n{more}")
        };
        assert!(noted(&zone("\toption masq 1"), "list interface wwan").is_some());
        assert_eq!(noted(&zone(""), "list interface wwan"), None);
        assert_eq!(noted(&zone("\toption masq 1\n\toption enabled 0"), "list interface wwan"), None);
        assert!(
            noted(
                &zone("\toption masq 1").replace("option network 'a wwan'", "list device wwan0"),
                "list interface wwan0"
            )
            .is_some()
        );
    }

    #[test]
    fn a_file_that_is_not_there_or_no_uci_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("firewall");
        assert!(read(&file).is_none());
        std::fs::write(&file, "config zone\n\toption name 'wan").unwrap();
        assert!(read(&file).is_none());
        std::fs::write(&file, usual("")).unwrap();
        assert_eq!(read(&file).unwrap().of_kind("zone").count(), 2);
    }
}
