//! What one section says of another: the accounts that devices and users name, the devices and logins that routes name.
//!
//! A name that stands for nothing is a warning, not an error: the section may just have been deleted, and settings that are
//! refused leave the former ones in use.

use super::reader::{Problem, Reader};
use super::settings::{AuthMode, Settings};
use super::uci::Package;

/// Finds names that stand for nothing.
pub(super) fn check(package: &Package, settings: &Settings, problems: &mut Vec<Problem>) {
    let names = |kind: &str| package.of_kind(kind).filter_map(|section| section.name.clone()).collect::<Vec<String>>();
    let (accounts, devices) = (names("account"), names("device"));
    for section in ["device", "user"].iter().flat_map(|kind| package.of_kind(kind)) {
        let mut read = Reader::new(section, problems);
        let named = read.list("account");
        for name in &named {
            let used = settings.accounts.iter().any(|account| account.name == *name);
            if !accounts.contains(name) {
                let whose = section.name.as_deref().unwrap_or_default();
                let text = format!(
                    "account '{name}' is not the name of a section 'account': the mail of '{whose}' can't leave by it"
                );
                read.warn("account", text);
            } else if !used {
                let whose = section.name.as_deref().unwrap_or_default();
                let text = format!("account '{name}' is not in use: the mail of '{whose}' can't leave by it");
                read.warn("account", text);
            }
        }
    }
    let mut logins = names("user");
    logins.extend(settings.users.iter().map(|user| user.username.clone()));
    let verifies = |auth| matches!(auth, AuthMode::Optional | AuthMode::Required);
    let verified = settings.listeners.iter().any(|listener| verifies(listener.auth));
    for section in package.of_kind("route") {
        let mut read = Reader::new(section, problems);
        for name in read.list("device").iter().filter(|name| !devices.contains(name)) {
            read.warn("device", format!("list device '{name}' is not the name of a section 'device' and fits no mail"));
        }
        let named = read.list("login");
        for name in named.iter().filter(|name| !logins.contains(name)) {
            read.warn("login", format!("list login '{name}' is not the name of a section 'user' and fits no mail"));
        }
        if !named.is_empty() && !verified {
            read.warn("login", "list login fits no mail: no listener has auth 'optional' or 'required'");
        }
    }
}
