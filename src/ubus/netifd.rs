//! Asks netifd, OpenWrt's network daemon, for the networks and their addresses, and hears when they change.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;

use super::BROKER;
use super::call;
use super::connection::{Link, Trouble};
use super::message::{Body, attribute, kind};
use crate::system::{networks, task};

/// netifd's object.
const NETIFD: &str = "network.interface";
/// How long netifd may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked even though nothing was heard.
const LOOK: Duration = Duration::from_secs(60);
/// Changes come in swarms: one question is enough.
const SETTLE: Duration = Duration::from_millis(200);

/// The networks now, for programs without a runtime. Blocks for up to two seconds; `None` without ubus or netifd.
pub fn ask() -> Option<Vec<networks::Network>> {
    call::ask(NETIFD, "dump", &json!({}), PATIENCE).ok().map(|dump| networks::read(&dump))
}

/// Asks for the networks once, before the first address is bound.
pub async fn learn() {
    if let Some(list) = task::blocking(ask).await.flatten() {
        networks::learned(list);
    }
}

/// Keeps what is known of the networks up to date, as long as the connection lasts. `heard` wakes it.
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

/// Looks once. `followed` is netifd's object when its notifications come to us.
async fn look(link: &Link, followed: &mut Option<u32>) -> Result<Vec<networks::Network>, Trouble> {
    let ear = ear(link).await?;
    // It has another number after it was started anew.
    let netifd = link.lookup(NETIFD, PATIENCE).await?;
    if *followed != Some(netifd) {
        let body = Body::default().number(attribute::OBJID, ear).number(attribute::TARGET, netifd).finish();
        // Without the right to it, the looks once a minute and the kernel's addresses have to do.
        let subscribed = link.request(kind::SUBSCRIBE, 0, &body, PATIENCE).await;
        *followed = subscribed.is_ok().then_some(netifd);
    }
    // After the subscription, so that no change goes unheard between the two.
    Ok(networks::read(&link.invoke(netifd, "dump", &json!({}), PATIENCE).await?))
}

/// The nameless object that notifications come to.
async fn ear(link: &Link) -> Result<u32, Trouble> {
    let known = link.ear.load(Ordering::Relaxed);
    if known != 0 {
        return Ok(known);
    }
    let ear = link.add_object(&[], PATIENCE).await?;
    link.ear.store(ear, Ordering::Relaxed);
    // netifd may come later than we, or again.
    // The number of an object is a signed one to ubusd.
    let wanted = json!({ "object": ear.cast_signed(), "pattern": "ubus.object.add" });
    let _ = link.invoke(BROKER, "register", &wanted, PATIENCE).await;
    Ok(ear)
}
