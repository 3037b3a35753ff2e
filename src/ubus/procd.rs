// SPDX-License-Identifier: Apache-2.0
//! Notifies procd, OpenWrt's init, that our settings have changed, as LuCI and `reload_config` do.

use std::time::Duration;

use serde_json::json;

use super::call;
use super::connection::RequestError;

/// Timeout for procd's answer. What procd then does takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes procd run what the init script has requested for changed settings (`procd_add_reload_trigger`). Blocks.
///
/// # Errors
/// Without ubus or procd, or without the right to call it, which is granted by the file in `/usr/share/acl.d`.
pub fn settings_changed() -> Result<(), String> {
    let change = json!({ "type": "config.change", "data": { "package": "smtprelay" } });
    match call::ask("service", "event", &change, PATIENCE) {
        // The answer is empty.
        Ok(_) | Err(RequestError::Malformed) => Ok(()),
        Err(RequestError::Gone) => Err("ubus is not running".into()),
        Err(RequestError::Silent) => Err("procd did not answer".into()),
        Err(RequestError::Refused(status)) => {
            Err(format!("ubus refuses with status {status}; check that /usr/share/acl.d/smtprelay.json exists"))
        }
    }
}
