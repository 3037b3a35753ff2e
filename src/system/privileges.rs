// SPDX-License-Identifier: Apache-2.0
//! Dropping root: the gateway needs root to read its settings and to bind port 25, and for nothing after that.
//!
//! A process that communicates with every device on a LAN and with foreign servers should not be able to change the
//! router. So it becomes an ordinary user, with no capabilities (capabilities(7)) and no way to regain any. What still
//! needs root is done by other processes: `smtprelay reload` hands over settings and sockets, and the hook has a
//! process of its own.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User, geteuid, getpid, getresuid, initgroups, setgid, setuid};

use super::capabilities;

/// The user that the gateway becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the user.
    pub name: String,
    /// Its user ID.
    pub uid: Uid,
    /// Its group ID.
    pub gid: Gid,
}

/// The user to become. `None` if there are no privileges to drop: the program was not started as root, or `option user`
/// requests that root is kept.
///
/// # Errors
/// If the user does not exist. Continuing as root would be unsafe.
pub fn identity(user: &str) -> Result<Option<Identity>, String> {
    // No lookup is needed for root; a small system may not have a list of users.
    if !geteuid().is_root() || user == "root" {
        return Ok(None);
    }
    let found = User::from_name(user).map_err(|error| format!("cannot look up the user '{user}': {error}"))?;
    let Some(found) = found else {
        return Err(format!(
            "the user '{user}' does not exist, and the gateway does not run as root: reinstall the package (it creates \
             the user), or set option user of section relay to a user that exists"
        ));
    };
    // Root, whatever its name.
    Ok((!found.uid.is_root()).then_some(Identity { name: found.name, uid: found.uid, gid: found.gid }))
}

/// Keeps memory, which contains passwords, out of core files and away from debuggers of the same user.
pub fn protect_memory() {
    // Neither of them can fail where it matters.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = prctl::set_dumpable(false);
}

/// In a jail, shuts down cleanly if the program that created the jail is gone: killed by the kernel for its memory, or
/// by procd. procd only knows that program. It would keep trying to start another gateway, in vain for as long as this
/// one uses the queue.
///
/// Must be called after [`give_up_root`]: a change of user resets it (prctl(2)).
pub fn end_with_the_jail() {
    // Only in a jail, the first process is not the system's own init.
    if getpid().as_raw() == 1 {
        // It cannot fail: the signal exists.
        let _ = prctl::set_pdeathsig(Signal::SIGTERM);
    }
}

/// Becomes this user, permanently. Must be called while the process has a single thread: capabilities belong to
/// threads.
///
/// # Errors
/// If a privilege could not be dropped; the process must not continue then.
pub fn give_up_root(identity: &Identity) -> Result<(), String> {
    let failed = |what: &str, error: nix::Error| {
        let name = &identity.name;
        format!("cannot become the user '{name}' ({what}: {error})")
    };
    let name = std::ffi::CString::new(identity.name.as_str()).unwrap_or_default();
    // The bounding set first: dropping it needs a capability itself.
    match capabilities::drop_bounding() {
        // In a container without CAP_SETPCAP. Programs still cannot gain anything, because of no_new_privs.
        Ok(()) | Err(nix::Error::EPERM) => {}
        Err(error) => return Err(failed("bounding set", error)),
    }
    initgroups(&name, identity.gid).map_err(|error| failed("groups", error))?;
    setgid(identity.gid).map_err(|error| failed("group", error))?;
    setuid(identity.uid).map_err(|error| failed("user", error))?;
    capabilities::drop_all().map_err(|error| failed("capabilities", error))?;
    prctl::set_no_new_privs().map_err(|error| failed("no new privileges", error))?;
    // A change of user resets this one.
    protect_memory();
    let now = getresuid().map_err(|error| failed("user", error))?;
    let gone = [now.real, now.effective, now.saved].iter().all(|uid| *uid == identity.uid);
    if !gone || setuid(Uid::from_raw(0)).is_ok() {
        return Err(format!("became the user '{}' only partially", identity.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_stays_only_where_that_is_asked_for() {
        if !geteuid().is_root() {
            assert_eq!(identity("no-such-user"), Ok(None));
            return println!("skipped: the rest is for root");
        }
        assert_eq!(identity("root"), Ok(None));
        let text = identity("no-such-user").unwrap_err();
        assert!(text.contains("'no-such-user' does not exist") && text.contains("reinstall the package"), "{text}");
        if let Ok(Some(nobody)) = identity("nobody") {
            assert_eq!(nobody.name, "nobody");
            assert!(!nobody.uid.is_root());
        }
    }
}
