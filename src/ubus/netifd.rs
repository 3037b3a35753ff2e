// SPDX-License-Identifier: Apache-2.0
//! Asks netifd, OpenWrt's network daemon, for the networks and their addresses, and is notified when they change.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;

use super::BROKER;
use super::call;
use super::connection::{Link, RequestError};
use super::message::{Body, attribute, kind};
use crate::system::{networks, task};

/// netifd's object.
const NETIFD: &str = "network.interface";
/// Timeout for netifd.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often netifd is asked if there are no notifications.
const LOOK: Duration = Duration::from_secs(60);
/// Changes come in bursts: one request for all of them is enough.
const SETTLE: Duration = Duration::from_millis(200);

/// The current networks, for programs without a runtime. Blocks for up to two seconds; `None` without ubus or netifd.
pub fn ask() -> Option<Vec<networks::Network>> {
    call::ask(NETIFD, "dump", &json!({}), PATIENCE).ok().map(|dump| networks::read(&dump))
}

/// Asks for the networks once, before the first address is bound.
pub async fn learn() {
    if let Some(list) = task::blocking(ask).await.flatten() {
        networks::learned(list);
    }
}

/// Keeps the information about the networks up to date, as long as the connection lasts. `heard` wakes it.
pub async fn follow(link: &Link, heard: &Notify) {
    let mut followed = None;
    loop {
        match look(link, &mut followed).await {
            Ok(list) => networks::learned(list),
            Err(_) => {
                followed = None;
                networks::outdated();
            }
        }
        if tokio::time::timeout(LOOK, heard.notified()).await.is_ok() {
            tokio::time::sleep(SETTLE).await;
        }
    }
}

/// Asks once. `followed` is netifd's object if we receive its notifications.
async fn look(link: &Link, followed: &mut Option<u32>) -> Result<Vec<networks::Network>, RequestError> {
    let ear = ear(link).await?;
    // Its ID changes when netifd is restarted.
    let netifd = link.lookup(NETIFD, PATIENCE).await?;
    if *followed != Some(netifd) {
        let body = Body::default().number(attribute::OBJID, ear).number(attribute::TARGET, netifd).finish();
        // Without the right to subscribe, asking once a minute and the kernel's addresses have to be enough.
        let subscribed = link.request(kind::SUBSCRIBE, 0, &body, PATIENCE).await;
        *followed = subscribed.is_ok().then_some(netifd);
    }
    // After the subscription, so that no change between the two is missed.
    Ok(networks::read(&link.invoke(netifd, "dump", &json!({}), PATIENCE).await?))
}

/// The anonymous object that receives notifications.
async fn ear(link: &Link) -> Result<u32, RequestError> {
    let known = link.ear.load(Ordering::Relaxed);
    if known != 0 {
        return Ok(known);
    }
    let ear = link.add_object(&[], PATIENCE).await?;
    link.ear.store(ear, Ordering::Relaxed);
    // netifd may be started later than this program, or be restarted. To ubusd, the ID of an object is a signed number.
    let wanted = json!({ "object": ear.cast_signed(), "pattern": "ubus.object.add" });
    let _ = link.invoke(BROKER, "register", &wanted, PATIENCE).await;
    Ok(ear)
}
