// SPDX-License-Identifier: Apache-2.0
//! What all parts of the queue know of a message: its ID, its client, the directory that its file is in; and why
//! something cannot be done with it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::DEFAULT_DEVICE;
use crate::system::leases::{Mac, Reach};

/// Crockford's base 32: without letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The ID of a message in the queue, which is also its file name. Small, since there is one for each queued message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 10]);

/// What is known of messages. Whatever it is stands in a box of its own: so the code of all these maps is the same, and the
/// linker keeps it once (some 2 KB each).
pub type ById<T> = BTreeMap<MessageId, Box<T>>;

/// The given text is not a message ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message ID consists of ten digits and capital letters (without I, L, O and U)")
    }
}

impl std::error::Error for NotAnId {}

impl MessageId {
    /// Before all IDs, in their order.
    pub(super) const FIRST: Self = Self([0; 10]);
    /// After all IDs, in their order.
    pub(super) const LAST: Self = Self([u8::MAX; 10]);

    /// An ID that no other message in the queue has (50 random bits).
    ///
    /// # Errors
    /// When the system has no random numbers, which only happens early during boot.
    pub fn random() -> std::io::Result<Self> {
        Self::from_str(&crate::system::random_id()?).map_err(std::io::Error::other)
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        // It only ever contains characters of the alphabet.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let bytes: [u8; 10] = text.as_bytes().try_into().map_err(|_| NotAnId)?;
        if bytes.iter().all(|b| ALPHABET.contains(b)) { Ok(Self(bytes)) } else { Err(NotAnId) }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<str> for MessageId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

#[cfg(test)]
impl MessageId {
    /// An ID that begins like `text`, for tests.
    pub fn like(text: &str) -> Self {
        let letters = text.to_uppercase().replace(['I', 'L'], "1").replace('O', "0").replace('U', "V");
        format!("{letters:0<10}").parse().expect("letters and digits, ten at most")
    }
}

/// The client that a message, a session or a login belongs to, for sharing room in the queue, turns at the provider,
/// session slots and guesses. Small, since one is kept with each queued message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// The gateway itself: notifications, summaries, test and boot mail.
    #[default]
    Own,
    /// A user of this host, by UID.
    Local([u8; 4]),
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 network of 64 bits behind a router: a host chooses the other 64, and as many as it likes (RFC 8981).
    V6([u8; 8]),
    /// A host of a directly connected IPv6 network by its hardware address, whatever addresses it chooses.
    Mac([u8; 6]),
    /// One whose hardware address is unknown, by a hash of its IPv6 address.
    Host([u8; 8]),
    /// A section `device`, by a hash of its name: whatever addresses it has.
    Device([u8; 8]),
}

impl Client {
    /// A user of this host.
    pub fn user(uid: u32) -> Self {
        Self::Local(uid.to_be_bytes())
    }

    /// The client at this IPv6 address, when the kernel was asked how it is reached.
    pub fn reached(ip: Ipv6Addr, reach: Reach) -> Self {
        match reach {
            Reach::Neighbour(mac) => Self::Mac(mac.bytes()),
            Reach::Connected => Self::Host(hash(&ip.octets())),
            Reach::Routed => Self::at(Some(ip.into())),
        }
    }

    /// The client at `ip`, as far as the address alone tells. `None`: a program of this host whose user is unknown.
    pub fn at(ip: Option<IpAddr>) -> Self {
        match ip.map(|ip| ip.to_canonical()) {
            None => Self::user(u32::MAX),
            Some(IpAddr::V4(ip)) => Self::V4(ip.octets()),
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// The client whose mail this is when the section `device` applies to it: the section, if it is one for a certain
    /// device. Devices that only match `default` have nothing in common.
    #[must_use]
    pub fn with(self, device: Option<&str>) -> Self {
        device.filter(|name| *name != DEFAULT_DEVICE).map_or(self, |name| Self::Device(hash(name.as_bytes())))
    }

    /// This client if it cannot be derived from an address or the name of a section, and therefore is recorded.
    pub fn to_record(self) -> Option<Self> {
        matches!(self, Self::Local(_) | Self::Mac(_) | Self::Host(_)).then_some(self)
    }

    /// Such a client as text.
    pub(super) fn text(self) -> Option<String> {
        let (kind, bytes): (_, &[u8]) = match &self {
            Self::Local(uid) => ('u', uid),
            Self::Mac(mac) => ('m', mac),
            Self::Host(hash) => ('h', hash),
            _ => return None,
        };
        Some(bytes.iter().fold(kind.to_string(), |text, byte| format!("{text}{byte:02x}")))
    }

    /// Reads that text.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let (kind, digits) = text.split_at_checked(1)?;
        match (kind, digits.len(), u64::from_str_radix(digits, 16).ok()?.to_be_bytes()) {
            ("u", 8, [.., a, b, c, d]) => Some(Self::Local([a, b, c, d])),
            ("m", 12, [_, _, mac @ ..]) => Some(Self::Mac(mac)),
            ("h", 16, hash) => Some(Self::Host(hash)),
            _ => None,
        }
    }

    /// The hardware address, if it is known by that.
    pub fn mac(self) -> Option<Mac> {
        if let Self::Mac(mac) = self { Some(mac.into()) } else { None }
    }
}

/// FNV-1a. Two names with the same hash would share their limits, nothing worse.
fn hash(name: &[u8]) -> [u8; 8] {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.iter().copied().fold(0xcbf2_9ce4_8422_2325, mix).to_be_bytes()
}

/// Which of the two directories a message is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `spool`: a RAM disk on most routers.
    Spool,
    /// `safe_spool`: survives power loss.
    Safe,
}

/// A message in the queue, as the schedule knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: MessageId,
    /// The client it belongs to.
    pub client: Client,
    /// Where its file is.
    pub place: Place,
    /// When it was accepted, seconds since 1970: by the clock at that time, or as determined later.
    pub arrived: i64,
    /// Bytes of its file.
    pub size: u64,
}

pub(super) struct Directory {
    pub(super) queue: PathBuf,
    /// Whether files and directory are synced before anything is confirmed.
    pub(super) sync: bool,
    /// The block size of its file system in bytes.
    pub(super) block: u64,
    /// Whether its files are in memory alone, and nothing is synced: then no work on them waits for a disk.
    pub(super) in_memory: bool,
}

impl Directory {
    /// The file of a message.
    pub(super) fn file(&self, id: MessageId) -> PathBuf {
        self.named("/", id, ".msg")
    }

    /// The file of a message that is not complete yet.
    pub(super) fn temporary(&self, id: MessageId) -> PathBuf {
        self.named("/.", id, ".tmp")
    }

    fn named(&self, begin: &str, id: MessageId, end: &str) -> PathBuf {
        let mut path = OsString::with_capacity(self.queue.as_os_str().len() + 16);
        path.push(&self.queue);
        [begin, id.as_str(), end].iter().for_each(|part| path.push(part));
        path.into()
    }
}

/// Why the queue could not do something.
#[derive(Debug)]
pub enum SpoolError {
    /// The limit or the disk is full. This may pass.
    Full(String),
    /// There is room, but not for this client: the rest is reserved for others.
    Share(String),
    /// Another disk error.
    Io(io::Error),
    /// The file is damaged, permanently.
    Damaged(String),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory | ErrorKind::FileTooLarge => {
                Self::Full(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(what) => write!(f, "the queue is full: {what}"),
            Self::Share(what) => write!(f, "this client has used up its share of the queue: {what}"),
            Self::Io(error) => {
                write!(f, "the queue cannot be read or written: {error}")?;
                match error.kind() {
                    // The kernel does this to a file system in which it found an error, such as after a power cut.
                    ErrorKind::ReadOnlyFilesystem => {
                        f.write_str("; the kernel log (dmesg) says why: unmount and check the file system (fsck)")
                    }
                    _ => Ok(()),
                }
            }
            Self::Damaged(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for SpoolError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_name_reads_back() {
        let id = MessageId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(&id, id.as_str());
        assert_eq!(MessageId::like("old").as_str(), "01D0000000");
    }

    fn of(ip: &str, device: Option<&str>) -> Client {
        Client::at(ip.parse().ok()).with(device)
    }

    /// Otherwise one device of a LAN would fill the queue, or block the logins, of all others there.
    #[test]
    fn neighbours_in_one_network_of_ipv6_are_clients_of_their_own() {
        let (one, other) = ("fd00::2".parse().unwrap(), "fd00::3".parse().unwrap());
        let mac = |last: u8| Reach::Neighbour(Mac::from([2, 0, 0, 0, 0, last]));
        assert_eq!(Client::reached(one, mac(1)), Client::reached(other, mac(1)));
        assert_ne!(Client::reached(one, mac(1)), Client::reached(one, mac(2)));
        assert_ne!(Client::reached(one, Reach::Connected), Client::reached(other, Reach::Connected));
        assert_eq!(Client::reached(one, Reach::Routed), Client::reached(other, Reach::Routed));
        assert_eq!(Client::reached(one, mac(7)).mac(), Mac::parse("02:00:00:00:00:07"));
    }

    #[test]
    fn what_an_address_does_not_tell_is_recorded() {
        let host = Client::reached("fd00::2".parse().unwrap(), Reach::Connected);
        for client in [Client::user(65_534), Client::Mac([2, 0, 0, 0, 0, 0xff]), host] {
            assert_eq!(Client::from_text(&client.to_record().unwrap().text().unwrap()), Some(client));
        }
        for client in [Client::Own, of("10.0.0.7", None), of("2001:db8::1", None), of("10.0.0.7", Some("pump"))] {
            assert_eq!((client.to_record(), client.text()), (None, None));
        }
        for wrong in ["", "u", "u0000fffg", "m0200000000", "x00000000", "ä", "h020000000000000000"] {
            assert_eq!(Client::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_client_is_an_address_a_network_of_ipv6_or_a_named_device() {
        assert_eq!(of("10.0.0.7", None), of("::ffff:10.0.0.7", Some("default")));
        assert_ne!(of("10.0.0.7", None), of("10.0.0.8", None));
        assert_eq!(of("2001:db8::1", None), of("2001:db8::2:3:4:5", None));
        assert_ne!(of("2001:db8::1", None), of("2001:db8:0:1::1", None));
        assert_eq!(of("10.0.0.7", Some("pump")), of("2001:db8::1", Some("pump")));
        assert_ne!(of("10.0.0.7", Some("pump")), of("10.0.0.7", Some("pool")));
        assert_ne!(Client::user(0), Client::user(65_534));
        assert_eq!(std::mem::size_of::<Client>(), 9);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c_u64.to_be_bytes());
    }

    proptest! {
        #[test]
        fn only_names_of_ours_are_taken(text in "\\PC{0,12}|[0-9A-Z]{10}|[0-9a-z]{10}") {
            let ours = text.len() == 10 && text.bytes().all(|b| ALPHABET.contains(&b));
            prop_assert_eq!(text.parse::<MessageId>().is_ok(), ours);
        }
    }
}
