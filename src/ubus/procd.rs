//! Tells procd, OpenWrt's init, that our settings have changed, as LuCI and `reload_config` do.

use std::time::Duration;

use serde_json::json;

use super::call;
use super::connection::Trouble;

/// How long procd may take to answer. What it does then takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has procd run what the init script asked for when the settings change (`procd_add_reload_trigger`). Blocks.
///
/// # Errors
/// Without ubus or procd, or without the right to it, which the file in `/usr/share/acl.d` gives.
pub fn settings_changed() -> Result<(), String> {
    let change = json!({ "type": "config.change", "data": { "package": "smtprelay" } });
    match call::ask("service", "event", &change, PATIENCE) {
        // It says nothing.
        Ok(_) | Err(Trouble::Malformed) => Ok(()),
        Err(Trouble::Gone) => Err("ubus does not run".into()),
        Err(Trouble::Silent) => Err("no answer".into()),
        Err(Trouble::Refused(status)) => {
            Err(format!("ubus refuses with status {status}; is /usr/share/acl.d/smtprelay.json in place?"))
        }
    }
}
