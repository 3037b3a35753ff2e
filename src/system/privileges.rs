// SPDX-License-Identifier: Apache-2.0
//! Dropping root: the gateway needs root to read its settings and to bind port 25, and for nothing after that.
//!
//! A process that communicates with every device on a LAN and with foreign servers should not be able to change the
//! router. So it becomes an ordinary user, with no capabilities (capabilities(7)) and no way to regain any. What still
//! needs root is done by other processes: `smtprelay reload` hands over settings and sockets, and the hook has a
//! process of its own.

use nix::errno::Errno;
use nix::libc::{
    PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_CAPBSET_DROP, PR_CAPBSET_READ, SYS_capset, c_int, c_ulong, prctl,
    syscall,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User, geteuid, getpid, getresuid, initgroups, setgid, setuid};

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
    match drop_bounding() {
        // In a container without CAP_SETPCAP. Programs still cannot gain anything, because of no_new_privs.
        Ok(()) | Err(nix::Error::EPERM) => {}
        Err(error) => return Err(failed("bounding set", error)),
    }
    initgroups(&name, identity.gid).map_err(|error| failed("groups", error))?;
    setgid(identity.gid).map_err(|error| failed("group", error))?;
    setuid(identity.uid).map_err(|error| failed("user", error))?;
    drop_capabilities().map_err(|error| failed("capabilities", error))?;
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

/// More than any kernel knows; asking for a capability beyond the kernel's last one is an error that ends the search.
const BEYOND: c_ulong = 64;
/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 bits for each set.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilitySets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn control(option: c_int, argument: c_ulong) -> nix::Result<c_int> {
    let none: c_ulong = 0;
    // SAFETY: the options used here take only numbers, no addresses.
    Errno::result(unsafe { prctl(option, argument, none, none, none) })
}

/// Empties the bounding set: no program that is run from now on can gain a capability, set-uid root or not.
///
/// # Errors
/// Without CAP_SETPCAP.
fn drop_bounding() -> nix::Result<()> {
    for capability in 0..BEYOND {
        match control(PR_CAPBSET_READ, capability) {
            Ok(1) => _ = control(PR_CAPBSET_DROP, capability)?,
            Ok(_) => {}
            // Beyond the last one that this kernel knows.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Empties the ambient, effective, permitted and inheritable sets.
///
/// # Errors
/// None are expected: dropping capabilities is always allowed.
fn drop_capabilities() -> nix::Result<()> {
    // Kernels before 4.3 have no ambient set.
    match control(PR_CAP_AMBIENT, c_ulong::try_from(PR_CAP_AMBIENT_CLEAR_ALL).unwrap_or_default()) {
        Ok(_) | Err(Errno::EINVAL) => {}
        Err(error) => return Err(error),
    }
    let header = CapabilityHeader { version: VERSION_3, pid: 0 };
    let sets = [CapabilitySets { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: both are laid out as the kernel expects, live until the call returns, and are only read by it: with a
    // version that it knows, it writes nothing back.
    Errno::result(unsafe { syscall(SYS_capset, &raw const header, &raw const sets) }).map(drop)
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
