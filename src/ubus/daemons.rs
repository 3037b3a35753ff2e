// SPDX-License-Identifier: Apache-2.0
//! Other daemons of OpenWrt: netifd, which knows the networks and their addresses and notifies us when they change, and
//! procd, the init, which is notified that our settings have changed, as LuCI and `reload_config` do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;

use super::BROKER;
use super::connection::{Link, RequestError, ask};
use super::message::{Body, attribute, kind};
use crate::system::interfaces::{self, Network, read_networks};
use crate::system::json::json;
use crate::system::task;

/// netifd's object.
const NETIFD: &str = "network.interface";
/// Timeout for netifd.
const NETIFD_TIME: Duration = Duration::from_secs(2);
/// How often netifd is asked if there are no notifications.
const LOOK: Duration = Duration::from_secs(60);
/// Changes come in bursts: one request for all of them is enough.
const SETTLE: Duration = Duration::from_millis(200);

/// The current networks, for programs without a runtime. Blocks for up to two seconds; `None` without ubus or netifd.
pub fn networks() -> Option<Vec<Network>> {
    ask(NETIFD, "dump", &json!({}), NETIFD_TIME).ok().map(|dump| read_networks(&dump))
}

/// Keeps the information about the networks up to date, as long as the connection lasts. `heard` wakes it.
pub async fn follow(link: &Link, heard: &Notify) {
    let mut followed = None;
    loop {
        match look(link, &mut followed).await {
            Ok(list) => interfaces::learned(list),
            Err(_) => {
                followed = None;
                interfaces::outdated();
            }
        }
        tokio::select! {
            () = heard.notified() => tokio::time::sleep(SETTLE).await,
            () = task::pause(LOOK) => {}
        }
    }
}

/// Asks once. `followed` is netifd's object if we receive its notifications.
async fn look(link: &Link, followed: &mut Option<u32>) -> Result<Vec<Network>, RequestError> {
    let ear = ear(link).await?;
    // Its ID changes when netifd is restarted.
    let netifd = link.lookup(NETIFD, NETIFD_TIME).await?;
    if *followed != Some(netifd) {
        let body = Body::default().number(attribute::OBJID, ear).number(attribute::TARGET, netifd).finish();
        // Without the right to subscribe, asking once a minute and the kernel's addresses have to be enough.
        let subscribed = link.request(kind::SUBSCRIBE, 0, &body, NETIFD_TIME).await;
        *followed = subscribed.is_ok().then_some(netifd);
    }
    // After the subscription, so that no change between the two is missed.
    Ok(read_networks(&link.invoke(netifd, "dump", &json!({}), NETIFD_TIME).await?))
}

/// The anonymous object that receives notifications.
async fn ear(link: &Link) -> Result<u32, RequestError> {
    let known = link.ear.load(Ordering::Relaxed);
    if known != 0 {
        return Ok(known);
    }
    let ear = link.add_object(&[], NETIFD_TIME).await?;
    link.ear.store(ear, Ordering::Relaxed);
    // netifd may be started later than this program, or be restarted. To ubusd, the ID of an object is a signed number.
    let wanted = json!({ "object": ear.cast_signed(), "pattern": "ubus.object.add" });
    let _ = link.invoke(BROKER, "register", &wanted, NETIFD_TIME).await;
    Ok(ear)
}

/// Timeout for procd's answer. What procd then does takes longer.
const PROCD_TIME: Duration = Duration::from_secs(5);

/// Makes procd run what the init script has requested for changed settings (`procd_add_reload_trigger`). Blocks.
///
/// # Errors
/// Without ubus or procd, or without the right to call it, which is granted by the file in `/usr/share/acl.d`.
pub fn settings_changed() -> Result<(), String> {
    let change = json!({ "type": "config.change", "data": { "package": "smtprelay" } });
    match ask("service", "event", &change, PROCD_TIME) {
        // The answer is empty.
        Ok(_) | Err(RequestError::Malformed) => Ok(()),
        Err(RequestError::Gone) => Err("ubus is not running".into()),
        Err(RequestError::Silent) => Err("procd did not answer".into()),
        Err(RequestError::Refused(status)) => {
            Err(format!("ubus refuses with status {status}; check that /usr/share/acl.d/smtprelay.json exists"))
        }
    }
}
