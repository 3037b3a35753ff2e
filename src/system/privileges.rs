//! Giving up root: the gateway needs it to read its settings and to bind port 25, and for nothing after that.
//!
//! A process that talks to every device of a LAN and to servers of others should not be able to change the router. So it
//! becomes an ordinary user, with no capability (capabilities(7)) and no way to get one back. What still needs root is
//! done by others: `smtprelay reload` hands over settings and sockets, the hook has a process of its own.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User, geteuid, getpid, getresuid, initgroups, setgid, setuid};

use super::capabilities;

/// Who the gateway becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the user.
    pub name: String,
    /// Its number.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
}

/// The user to become. `None` when there is nothing to give up: the program was not started as root, or `option user` says
/// that root is to stay.
///
/// # Errors
/// When the user does not exist. Going on as root would be the wrong way to be helpful.
pub fn identity(user: &str) -> Result<Option<Identity>, String> {
    // Root needs no look into a list of users, which a small system may not have.
    if !geteuid().is_root() || user == "root" {
        return Ok(None);
    }
    let found = User::from_name(user).map_err(|error| format!("can't look up the user '{user}': {error}"))?;
    let Some(found) = found else {
        return Err(format!(
            "the user '{user}' is missing, and the gateway does not run as root: install the package again (it makes \
             the user), or set option user of section relay to a user that exists"
        ));
    };
    // Root, under whatever name.
    Ok((!found.uid.is_root()).then_some(Identity { name: found.name, uid: found.uid, gid: found.gid }))
}

/// Keeps memory, which holds passwords, out of core files and away from debuggers of the same user.
pub fn protect_memory() {
    // Neither can fail where it means anything.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = prctl::set_dumpable(false);
}

/// In a jail, ends in order when the program that made the jail is no more: killed by the kernel for its memory, or by procd.
/// procd knows that one only. It would start another gateway in vain, for as long as this one works on the queue.
///
/// To be called after [`give_up_root`]: a change of user takes it back (prctl(2)).
pub fn end_with_the_jail() {
    // Only in a jail the first process of all is not the system's own init.
    if getpid().as_raw() == 1 {
        // It can't fail: the signal exists.
        let _ = prctl::set_pdeathsig(Signal::SIGTERM);
    }
}

/// Becomes this user, for good. To be called while the process has a single thread: capabilities belong to threads.
///
/// # Errors
/// When something could not be given up; the process is then not to go on.
pub fn give_up_root(identity: &Identity) -> Result<(), String> {
    let failed = |what: &str, error: nix::Error| {
        let name = &identity.name;
        format!("can't become the user '{name}' ({what}: {error})")
    };
    let name = std::ffi::CString::new(identity.name.as_str()).unwrap_or_default();
    // The bounding set first: that takes a capability itself.
    match capabilities::drop_bounding() {
        // In a container without CAP_SETPCAP. No program gains anything all the same, by no_new_privs.
        Ok(()) | Err(nix::Error::EPERM) => {}
        Err(error) => return Err(failed("bounding set", error)),
    }
    initgroups(&name, identity.gid).map_err(|error| failed("groups", error))?;
    setgid(identity.gid).map_err(|error| failed("group", error))?;
    setuid(identity.uid).map_err(|error| failed("user", error))?;
    capabilities::drop_all().map_err(|error| failed("capabilities", error))?;
    prctl::set_no_new_privs().map_err(|error| failed("no new privileges", error))?;
    // A change of user changes this one back.
    protect_memory();
    let now = getresuid().map_err(|error| failed("user", error))?;
    let gone = [now.real, now.effective, now.saved].iter().all(|uid| *uid == identity.uid);
    if !gone || setuid(Uid::from_raw(0)).is_ok() {
        return Err(format!("could become the user '{}' only in part", identity.name));
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
        assert!(text.contains("'no-such-user' is missing") && text.contains("install the package again"), "{text}");
        if let Ok(Some(nobody)) = identity("nobody") {
            assert_eq!(nobody.name, "nobody");
            assert!(!nobody.uid.is_root());
        }
    }
}
