// SPDX-License-Identifier: Apache-2.0
//! The CRC-32 of the spool (as in zip and Ethernet). It detects what a failing flash chip or an incomplete write
//! changed; it does not protect against tampering.

#[cfg(not(target_pointer_width = "64"))]
use narrow::Digest;
#[cfg(target_pointer_width = "64")]
use wide::Digest;

/// For machines that have room for tables: 16 bytes are looked up at a time, each in a table of 1 KB that no compression makes
/// smaller. A message of 10 KB costs a sixth fewer instructions so.
#[cfg(any(test, target_pointer_width = "64"))]
mod wide {
    use crc::{CRC_32_ISO_HDLC, Crc, Table};

    static CRC_32: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);

    #[derive(Clone)]
    pub(super) struct Digest(crc::Digest<'static, u32, Table<16>>);

    impl Digest {
        pub(super) fn new() -> Self {
            Self(CRC_32.digest())
        }

        pub(super) fn update(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        pub(super) fn finalize(self) -> u32 {
            self.0.finalize()
        }
    }
}

/// For small routers: one table, and four bytes loaded at a time, which is seven instructions a byte on MIPS. That of the crate
/// takes twelve, and four tables would take six.
#[cfg(any(test, not(target_pointer_width = "64")))]
mod narrow {
    const POLYNOMIAL: u32 = 0xedb8_8320;

    static TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut crc, mut bit) = (byte as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };

    #[derive(Clone)]
    pub(super) struct Digest(u32);

    impl Digest {
        pub(super) fn new() -> Self {
            Self(u32::MAX)
        }

        pub(super) fn update(&mut self, bytes: &[u8]) {
            let step = |crc: u32| TABLE.get((crc & 0xff) as usize).copied().unwrap_or(0) ^ crc >> 8;
            let (words, rest) = bytes.as_chunks::<4>();
            let mut crc = self.0;
            for word in words {
                crc = step(step(step(step(crc ^ u32::from_le_bytes(*word)))));
            }
            for byte in rest {
                crc = step(crc ^ u32::from(*byte));
            }
            self.0 = crc;
        }

        pub(super) fn finalize(self) -> u32 {
            !self.0
        }
    }
}

/// A checksum that is updated with what is written or read.
#[derive(Clone)]
pub struct Checksum(Digest);

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

impl Checksum {
    /// The checksum of no data.
    pub fn new() -> Self {
        Self(Digest::new())
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
        let mut sum = Self::new();
        sum.update(bytes);
        sum.value()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Checksum, narrow, wide};

    #[test]
    fn it_is_the_crc_of_zip() {
        assert_eq!(Checksum::of(b"123456789"), 0xcbf4_3926);
        let mut sum = Checksum::new();
        sum.update(b"1234");
        sum.update(b"56789");
        assert_eq!(sum.value(), 0xcbf4_3926);
    }

    proptest! {
        #[test]
        fn small_and_large_machines_agree(bytes in any::<Vec<u8>>(), cut in 0usize..50) {
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let (mut narrow, mut wide) = (narrow::Digest::new(), wide::Digest::new());
            [first, second].iter().for_each(|part| narrow.update(part));
            [first, second].iter().for_each(|part| wide.update(part));
            prop_assert_eq!(narrow.finalize(), wide.finalize());
        }
    }
}
