// SPDX-License-Identifier: Apache-2.0
//! HMAC with MD5, which the login CRAM-MD5 (RFC 2195) requires. MD5 itself protects nothing any more, and nothing else here
//! uses it.
//!
//! Written as a loop: the crate for it spells out each of the 64 steps, several times, 8 KB of a package.

/// The integer part of 2^32 times the sine of 1, 2, 3 … (RFC 1321 section 3.4).
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];
/// By how many bits each step rotates: one row for each round.
const ROTATIONS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
/// Bytes of a block.
const BLOCK: usize = 64;

/// HMAC-MD5 (RFC 2104) of `text`, in hexadecimal digits.
pub fn hmac_md5(key: &[u8], text: &[u8]) -> String {
    let hashed = if key.len() > BLOCK { Some(md5(key)) } else { None };
    let key = hashed.as_ref().map_or(key, |hashed| hashed.as_slice());
    let pad = |with: u8| -> Vec<u8> { (0..BLOCK).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = md5(&[&pad(0x36), text].concat());
    md5(&[pad(0x5c).as_slice(), &inner].concat()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 1321.
fn md5(text: &[u8]) -> [u8; 16] {
    let mut padded = text.to_vec();
    padded.push(0x80);
    padded.resize((text.len() + 9).next_multiple_of(BLOCK) - 8, 0);
    padded.extend_from_slice(&(text.len() as u64).wrapping_mul(8).to_le_bytes());
    let start = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let state = padded.as_chunks::<BLOCK>().0.iter().fold(start, add);
    let mut digest = [0; 16];
    for (place, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *place = word.to_le_bytes();
    }
    digest
}

/// The state after another block.
fn add(state: [u32; 4], block: &[u8; BLOCK]) -> [u32; 4] {
    let words = block.as_chunks::<4>().0;
    let [mut a, mut b, mut c, mut d] = state;
    for (step, sine) in SINES.iter().enumerate() {
        let (mixed, place) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), 5 * step + 1),
            2 => (b ^ c ^ d, 3 * step + 5),
            _ => (c ^ (b | !d), 7 * step),
        };
        let word = words.get(place % 16).copied().map_or(0, u32::from_le_bytes);
        let bits = ROTATIONS.get(step / 16).and_then(|round| round.get(step % 4)).copied().unwrap_or(0);
        let sum = a.wrapping_add(mixed).wrapping_add(*sine).wrapping_add(word);
        (a, b, c, d) = (d, b.wrapping_add(sum.rotate_left(bits)), b, c);
    }
    let [e, f, g, h] = state;
    [a.wrapping_add(e), b.wrapping_add(f), c.wrapping_add(g), d.wrapping_add(h)]
}

#[cfg(test)]
mod tests {
    use super::hmac_md5;
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_2195() {
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        assert_eq!(hmac_md5(b"tanstaaftanstaaf", challenge), "b913a602c7eda7a495b4e6e7334d3890");
    }

    proptest! {
        #[test]
        fn hmac_as_others_compute_it(
            key in proptest::collection::vec(any::<u8>(), 0..100), text in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let mut theirs = Hmac::<md5::Md5>::new_from_slice(&key).unwrap();
            theirs.update(&text);
            let theirs: String = theirs.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(hmac_md5(&key, &text), theirs);
        }
    }
}
