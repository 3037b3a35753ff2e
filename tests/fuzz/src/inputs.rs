// SPDX-License-Identifier: Apache-2.0
//! Made-up inputs: messages that were seen on the wire and tables of all types, with a few things wrong in them.

use serde_json::{Value, json};

use crate::blobmsg;

/// As recorded between ubusd, the `ubus` command and a program, without the headers where that makes a table.
const SEEN: [&str; 5] = [
    "830000130002746f000000006140622e6465000087000011000776657262 6f73650000000001000000",
    "8700000d00026f6b0000000001000000850000100004636f64650000000000fa8300000f00036d7367000000 4f6b0000",
    "830000160002696400000000736d747072656c6179000000820000 1c00046461746100008300000f0005737461746500 6f6b0000",
    "00050002848cd7c60000005c03000008159e6cd40400000974657374000000000c000009726f6f74000000000d000009726f6f7400000000
     0700002c830000130002746f000000006140622e6465000087000011000776657262 6f73650000000001000000",
    "000200020000000000000014 03000008159e6cd4050000089f6e475a",
];

/// Lengths, types and flags that mean something.
const TELLING: [u8; 12] = [0, 1, 2, 3, 4, 5, 7, 8, 0x7f, 0x80, 0x83, 0xff];

/// Input after input, the same for the same seed.
pub struct Inputs {
    random: u64,
    seeds: Vec<Vec<u8>>,
}

impl Inputs {
    pub fn new(seed: u64) -> Self {
        let mut seeds: Vec<Vec<u8>> = SEEN.into_iter().map(bytes).collect();
        let deep = (0..blobmsg::DEPTH_LIMIT - 1).fold(json!(1), |inner, _| json!([inner]));
        let tables = [
            json!({}),
            json!({ "deep": deep }),
            json!({ "a": null, "b": true, "c": -1, "d": i64::MAX, "e": 0.5, "f": "ä", "g": [], "h": {} }),
            json!({ "interface": [{ "up": true, "ipv4-address": [{ "address": "192.168.1.1", "mask": 24 }] }] }),
            (0..40).map(|n| (format!("name{n}"), Value::from(n))).collect(),
        ];
        seeds.extend(tables.iter().map(|table| blobmsg::encode(table).expect("a table that can be written")));
        Self { random: seed, seeds }
    }

    /// SplitMix64: small, and the same everywhere.
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => u8::try_from(self.below(256)).unwrap_or(0),
        }
    }

    /// The next one.
    pub fn next(&mut self) -> Vec<u8> {
        if self.below(50) == 0 {
            return (0..self.below(100)).map(|_| self.byte()).collect();
        }
        let seed = self.below(self.seeds.len());
        let mut input = self.seeds[seed].clone();
        for _ in 0..self.below(4) {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let place = self.below(input.len() + 1);
        match self.below(7) {
            0 => input.truncate(place),
            1 => input.insert(place, self.byte()),
            2 if place < input.len() => _ = input.remove(place),
            // A length: the low byte of a word.
            3 if !input.is_empty() => {
                let word = (self.below(input.len()) | 3).min(input.len() - 1);
                input[word] = self.byte();
            }
            4 => {
                let other = self.below(self.seeds.len());
                let piece = self.seeds[other].clone();
                let aligned = place / 4 * 4;
                input.splice(aligned..aligned, piece);
            }
            5 if place < input.len() => input[place] ^= 1 << self.below(8),
            _ if place < input.len() => input[place] = self.byte(),
            _ => {}
        }
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).filter_map(|pair| u8::try_from(pair[0] * 16 + pair.get(1)?).ok()).collect()
}
