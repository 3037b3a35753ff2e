// SPDX-License-Identifier: Apache-2.0
//! The CRC-32 of the spool (as in zip and Ethernet). It detects what a failing flash chip or an incomplete write
//! changed; it does not protect against tampering.

use crc::{CRC_32_ISO_HDLC, Crc, Table};

/// Bytes that are looked up at a time, each in a table of 1 KB that no compression makes smaller: all machines with 64
/// bits have room for 16 of them, small routers take one. A message of 10 KB costs a sixth fewer instructions so.
const TABLES: usize = if cfg!(target_pointer_width = "64") { 16 } else { 1 };

static CRC_32: Crc<u32, Table<TABLES>> = Crc::<u32, Table<TABLES>>::new(&CRC_32_ISO_HDLC);

/// A checksum that is updated with what is written or read.
#[derive(Clone)]
pub struct Checksum(crc::Digest<'static, u32, Table<TABLES>>);

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

impl Checksum {
    /// The checksum of no data.
    pub fn new() -> Self {
        Self(CRC_32.digest())
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything so far.
    pub fn value(&self) -> u32 {
        self.0.clone().finalize()
    }

    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> u32 {
        CRC_32.checksum(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;

    #[test]
    fn it_is_the_crc_of_zip() {
        assert_eq!(Checksum::of(b"123456789"), 0xcbf4_3926);
        let mut sum = Checksum::new();
        sum.update(b"1234");
        sum.update(b"56789");
        assert_eq!(sum.value(), 0xcbf4_3926);
    }
}
