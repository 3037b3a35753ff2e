// SPDX-License-Identifier: Apache-2.0
//! Made-up files. Most are nearly right: a file of plain noise fails at its first word and tests nothing else.
//!
//! One thing is held back: many NUL bytes. libuci doubles its line buffer at nearly each of them and never makes
//! it smaller, so that some thirty ask for gigabytes. So a file has only a few.

/// The most NUL bytes in one file.
const MAX_NULS: usize = 6;

/// Pseudo-random numbers: SplitMix64, which is small, and the same everywhere for the same seed.
pub struct Random(u64);

impl Random {
    /// Numbers for one seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True in `percent` of a hundred cases.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// Bytes that mean something to the grammar, and some that look as if they did.
const SPECIAL: &[u8] = b"'\"\\#; \t\r\n\x0b\x0c'\"\\\n;_-.=@[]\x01\x7f\x80\xa0\xc3\xbc\xff";

/// One file.
pub fn file(random: &mut Random) -> Vec<u8> {
    let mut file = match random.below(20) {
        0 => noise(random),
        _ => commands(random),
    };
    if random.chance(35) {
        for _ in 0..=random.below(3) {
            damage(random, &mut file);
        }
    }
    if random.chance(8) {
        file.truncate(random.below(file.len() + 1));
    }
    let mut nuls = 0;
    file.retain(|byte| {
        nuls += usize::from(*byte == 0);
        *byte != 0 || nuls <= MAX_NULS
    });
    file
}

/// Special bytes, letters and keywords in any order.
fn noise(random: &mut Random) -> Vec<u8> {
    let mut file = Vec::new();
    for _ in 0..random.below(60) {
        match random.below(4) {
            0 => file.extend_from_slice(random.pick(&["config ", "option ", "list ", "c a\n"]).as_bytes()),
            1 => file.push(random.pick(&["a", "n", "x", "1"]).as_bytes()[0]),
            2 => file.push(random.next() as u8),
            _ => file.push(SPECIAL[random.below(SPECIAL.len())]),
        }
    }
    file
}

/// Commands as a person or a program would write them, mostly.
fn commands(random: &mut Random) -> Vec<u8> {
    // How often a word is one that should not be there. Most files have none: one is enough for a refusal.
    let odd = if random.chance(70) { 0 } else { 6 };
    let mut file = Vec::new();
    if random.chance(10) {
        file.extend_from_slice(b"package other\n");
    }
    if !random.chance(3) {
        section(random, &mut file, odd);
        end(random, &mut file);
    }
    for _ in 0..random.below(12) {
        match random.below(12) {
            0..=2 => section(random, &mut file, odd),
            3..=6 => option(random, &mut file, "option", odd),
            7..=9 => option(random, &mut file, "list", odd),
            10 => file.extend_from_slice(random.pick(&["# note", "  # it's", "\t", "\x0b\x0c \r", ""]).as_bytes()),
            _ if random.chance(odd) => {
                file.extend_from_slice(
                    random.pick(&["foo x 1", "options x 1", "'config' a", "p", "\u{feff}"]).as_bytes(),
                );
            }
            _ => file.extend_from_slice(random.pick(&["p x-1", "package 'y'"]).as_bytes()),
        }
        end(random, &mut file);
    }
    match random.below(30) {
        0 => file.extend_from_slice(random.pick(&["config", "c", "option", "o", "list", "package", "p"]).as_bytes()),
        1..=4 => {
            file.pop();
        }
        _ => {}
    }
    file
}

/// `config`, also of sections that exist, and of the names that libuci makes up for anonymous ones.
fn section(random: &mut Random, file: &mut Vec<u8>, odd: usize) {
    keyword(random, file, "config");
    // A name goes with its type most of the time, so that sections are opened again and not refused.
    let (kind, name) = match random.below(18) {
        0..=3 => ("a", "n"),
        4 | 5 => ("a", "N_2"),
        6 | 7 => ("bb", "0"),
        8 => ("b-b.c", "a_rather_long_name_of_a_section_that_fills_the_first_buffer_of_libuci"),
        9 => ("bb", "cfg027749"),
        10 => ("a", "cfg01b606"),
        11 | 12 => ("a", "cfg02b606"),
        13 => ("a", "''"),
        14 => ("it's#;\"\\", ""),
        _ => ("a", ""),
    };
    if random.chance(odd) {
        let kind = random_bytes(random, 3);
        word(random, file, &kind);
    } else {
        word(random, file, kind.as_bytes());
    }
    if random.chance(odd) {
        let name = random.pick(&["n-m", "n.m", "n m", "\u{fc}", "n", "n\x0bm", "@a[0]"]);
        word(random, file, name.as_bytes());
    } else if name == "''" {
        file.extend_from_slice(b"''");
    } else if !name.is_empty() {
        word(random, file, name.as_bytes());
    }
    if random.chance(odd) {
        word(random, file, b"more");
    }
}

/// `option` or `list`, also without value, with an empty one, or with one word too many.
fn option(random: &mut Random, file: &mut Vec<u8>, command: &str, odd: usize) {
    keyword(random, file, command);
    if random.chance(odd) {
        let name = random.pick(&["x-y", "x.y", "x y", "", "''", "x\u{fc}", "x\ny", "x=1"]);
        word(random, file, name.as_bytes());
    } else {
        let name = random.pick(&["x", "x", "y", "zz", "1x", "X_9"]);
        word(random, file, name.as_bytes());
    }
    let value = match random.below(20) {
        0 => return,
        1 => {
            file.extend_from_slice(random.pick(&["''", "\"\"", "''\"\"''"]).as_bytes());
            return;
        }
        2..=7 => random.pick(&["1", "2", "22", "a b", "it's"]).as_bytes().to_vec(),
        // Around the sizes of libuci's line buffer, which begins at 32 bytes and doubles.
        8 => vec![b'v'; (32 << random.below(8)) + random.below(40) - 20],
        9 => random_bytes(random, 3000),
        _ => random_bytes(random, 24),
    };
    word(random, file, &value);
    if random.chance(odd) {
        word(random, file, b"more");
    }
}

fn keyword(random: &mut Random, file: &mut Vec<u8>, keyword: &str) {
    if random.chance(40) {
        file.extend_from_slice(random.pick(&["\t", "  ", " \t"]).as_bytes());
    }
    match random.below(12) {
        0 => file.extend_from_slice(&keyword.as_bytes()[..1]),
        _ => file.extend_from_slice(keyword.as_bytes()),
    }
    file.extend_from_slice(random.pick(&[" ", " ", "\t", "  ", " \x0b"]).as_bytes());
}

/// The end of a command: mostly a line feed.
fn end(random: &mut Random, file: &mut Vec<u8>) {
    let end = match random.below(30) {
        0 => " ; ",
        1 => ";",
        2 => " # it's; a \"note\n",
        3 => "#\n",
        4 | 5 => "\r\n",
        6 => " \t\x0b\x0c\r\n",
        7 => "\\\n\n",
        8 => " ;\n",
        _ => "\n",
    };
    file.extend_from_slice(end.as_bytes());
}

/// Any bytes that a value can have, special ones more often.
fn random_bytes(random: &mut Random, most: usize) -> Vec<u8> {
    let length = 1 + random.below(most);
    let special = random.below(60);
    let byte = |_| match random.chance(special) {
        true => SPECIAL[random.below(SPECIAL.len())],
        false => b'a' + random.below(26) as u8,
    };
    (0..length).map(byte).collect()
}

/// A blank and a word that means `text`, in one of the many ways to quote it.
fn word(random: &mut Random, file: &mut Vec<u8>, text: &[u8]) {
    if !file.ends_with(b" ") {
        file.push(b' ');
    }
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(1 + random.below(rest.len()));
        rest = behind;
        let plain = piece.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte));
        match random.below(4) {
            0 | 1 if plain => file.extend_from_slice(piece),
            0 => bare(random, file, piece),
            1 | 2 if !piece.contains(&b'\'') => quoted(file, b'\'', piece),
            _ => double_quoted(random, file, piece),
        }
    }
}

fn quoted(file: &mut Vec<u8>, quote: u8, piece: &[u8]) {
    file.push(quote);
    file.extend_from_slice(piece);
    file.push(quote);
}

/// Without quotes. A line feed cannot be escaped there and vanishes.
fn bare(random: &mut Random, file: &mut Vec<u8>, piece: &[u8]) {
    for byte in piece {
        if !byte.is_ascii_alphanumeric() || random.chance(10) {
            file.push(b'\\');
        }
        file.push(*byte);
        join_lines(random, file);
    }
}

fn double_quoted(random: &mut Random, file: &mut Vec<u8>, piece: &[u8]) {
    file.push(b'"');
    for byte in piece {
        if b"\"\\".contains(byte) || (*byte != b'\n' && random.chance(10)) {
            file.push(b'\\');
        }
        file.push(*byte);
        join_lines(random, file);
    }
    file.push(b'"');
}

fn join_lines(random: &mut Random, file: &mut Vec<u8>) {
    if random.chance(2) {
        file.extend_from_slice(random.pick(&["\\\n", "\\\r\n"]).as_bytes());
    }
}

/// One small accident at some place of the file.
fn damage(random: &mut Random, file: &mut Vec<u8>) {
    let place = random.below(file.len() + 1);
    let end = file.len().min(place + random.below(8));
    match random.below(10) {
        0 => {
            file.drain(place..end);
        }
        1 => {
            let copy = file[place..end].to_vec();
            let target = random.below(file.len() + 1);
            file.splice(target..target, copy);
        }
        2 => {
            // Also at the beginning of a line: libuci takes that for the end of the file.
            let next_line =
                file.iter().skip(place).position(|byte| *byte == b'\n').map(|line_feed| place + line_feed + 1);
            let target = next_line.filter(|_| random.chance(50)).unwrap_or(place);
            file.insert(target, 0);
        }
        3 => file.insert(place, random.next() as u8),
        4 => {
            let text = random.pick(&["'it'\\''s'", "\\\n", "\\\r\n", "\\\r", ";", " ; ", "\n", "\r"]);
            file.splice(place..place, text.bytes());
        }
        5 => {
            if let Some(byte) = file.get_mut(place) {
                *byte = random.next() as u8;
            }
        }
        _ => file.insert(place, SPECIAL[random.below(SPECIAL.len())]),
    }
}
