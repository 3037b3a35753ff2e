// SPDX-License-Identifier: Apache-2.0
//! What the program needs from the operating system: names, addresses, time, limits, the system log.

pub mod addresses;
pub mod checksum;
pub mod clock;
mod code;
pub mod crash;
pub mod crypto;
pub mod heap;
pub mod interfaces;
pub mod json;
pub mod leases;
pub mod logging;
pub mod md5;
pub mod memory;
pub mod ownership;
pub mod privileges;
pub mod publish;
pub mod shelf;
pub mod task;

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;

/// Locks `mutex`. A panic while it was locked does not matter: it ends the whole program, see `end_on_panic` in main.rs.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the order to stop: the value becomes true, or its sender is gone.
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

/// Raises the limit of open files to what the system allows: each device and each message being received needs one.
///
/// Returns the new limit. A failure is not an error: the old limit stays.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    // More than this is useless here, and some systems answer with "infinity".
    let wanted = hard.min(4096).max(soft);
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    }
}

/// Keeps inherited file descriptors away from child processes: the parent may have left files or sockets open that are
/// none of the business of a hook, even one running as root. What the program opens itself is never passed on.
///
/// Must be called before a second thread is started. Without /proc nothing changes.
pub fn keep_descriptors() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > 2) {
        // SAFETY: it was open a moment ago, and there is no other thread that could have closed it since.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}

/// A message ID that is unique in the queue: ten characters that can be read out over the phone (Crockford's base 32,
/// 50 random bits).
///
/// # Errors
/// If the system provides no random numbers, which happens only early during boot.
pub fn random_id() -> std::io::Result<String> {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut bytes = [0u8; 10];
    getrandom::fill(&mut bytes)
        .map_err(|e| std::io::Error::other(format!("the system provides no random numbers: {e}")))?;
    Ok(bytes.iter().filter_map(|b| ALPHABET.get(usize::from(b & 31))).map(|c| char::from(*c)).collect())
}

/// The start of `text`, at most `limit` bytes, cut between two characters.
pub fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Whether `c` changes the writing direction (Unicode 15 section 23.3: U+061C, U+200E, U+200F, U+202A to U+202E, U+2066
/// to U+2069) or ends a line for some programs (U+2028, U+2029). With these, text from a device can look like text from
/// another source.
pub fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `text` consists of printable ASCII, as nearly all texts do: then there is nothing in it to replace.
pub fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// `text` with these characters spelled out, such as `<U+202E>`.
pub fn spelled_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_deceptive(c) {
            true => out.push_str(&format!("<U+{:04X}>", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_text_around_can_be_seen() {
        assert_eq!(spelled_out("a\u{202e}b\u{61c}\u{2028}ü €"), "a<U+202E>b<U+061C><U+2028>ü €");
        let all = (0x2000..0x2070).filter_map(char::from_u32).filter(|c| is_deceptive(*c)).count();
        assert_eq!(all, 2 + 7 + 4);
    }

    #[test]
    fn ids_are_short_readable_and_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).filter_map(|_| random_id().ok()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 10 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    }
}
