//! What the program asks of the system it runs on: names, addresses, time, limits, the system log.

pub mod capabilities;
pub mod checksum;
pub mod clock;
pub mod crypto;
pub mod interfaces;
pub mod leases;
pub mod logging;
pub mod memory;
pub mod names;
pub mod networks;
pub mod ownership;
pub mod privileges;
pub mod publish;
pub mod task;
pub mod visible;
pub mod volumes;

use std::os::fd::{BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;

/// Waits for the order to stop, which is given when the value becomes true or its sender is gone.
pub async fn ordered(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The host's own name, or an address literal that every mail server accepts (RFC 5321 section 4.1.3).
pub fn host_name() -> String {
    let usable =
        |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(usable)
        .unwrap_or_else(|| "[127.0.0.1]".to_string())
}

/// Lets the process open as many files as the system allows it: each device and each message being taken needs one.
///
/// Returns the number now allowed. A refusal is no error: the old limit stays.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    // More than this is of no use here, and some systems answer with "infinity".
    let wanted = hard.min(4096).max(soft);
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    }
}

/// Keeps what the process was started with from the programs that it starts: whoever started it may have left files or
/// sockets open that a hook, which may be root's, has no business with. What the program opens itself is never passed on.
///
/// Must be called before there is a second thread. Where there is no /proc nothing changes.
pub fn keep_descriptors() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > 2) {
        // SAFETY: it was open a moment ago, and there is no other thread that could have closed it since.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}

/// A name for one message that no other message in the queue has: ten characters that can be read out on the phone
/// (Crockford's base 32, 50 random bits).
///
/// # Errors
/// When the system has no random numbers to give, which happens only early in a boot.
pub fn random_id() -> std::io::Result<String> {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut bytes = [0u8; 10];
    getrandom::fill(&mut bytes)
        .map_err(|e| std::io::Error::other(format!("no random numbers from the system: {e}")))?;
    Ok(bytes.iter().filter_map(|b| ALPHABET.get(usize::from(b & 31))).map(|c| char::from(*c)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_readable_and_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).filter_map(|_| random_id().ok()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 10 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    }
}
