// SPDX-License-Identifier: Apache-2.0
//! libuci and our reader must give the same answer to every file.
//!
//! `UCI_TEST_COUNT` sets how many files are made up, `UCI_TEST_SEED` which ones. Run with `--nocapture` to see
//! what they were like.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs, process};

use smtprelay_libuci_test::files::{self, Random};
use smtprelay_libuci_test::libuci::{self, Loaded};
use smtprelay_libuci_test::uci::{self, Package, ParseError};

const COUNT: usize = 6000;
const SEED: u64 = 20_261_123;

const NO_SECTION: &str = "option/list command found before the first section";

/// Every reason that libuci has to refuse a file that `uci_load` reads.
const REASONS: [&str; 12] = [
    "invalid command",
    "package without name",
    "config without name",
    "option without name",
    "insufficient arguments",
    "too many arguments",
    "invalid character in name field",
    "invalid character in type field",
    NO_SECTION,
    "section of different type overwrites prior section with same name",
    "EOF with unterminated '",
    "EOF with unterminated \"",
];

/// The file that libuci reads, in a directory that goes away again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let directory = env::temp_dir().join(format!("smtprelay-libuci-test-{}", process::id()));
        fs::create_dir(&directory).expect("a new directory");
        Scratch(directory)
    }

    fn load(&self, file: &[u8]) -> Result<Loaded, String> {
        let path = self.0.join("smtprelay");
        fs::write(&path, file).expect("a file for libuci");
        let answer = libuci::load(&path);
        // Some file systems write out at once what replaces a file, which takes longer than all the rest.
        fs::remove_file(&path).expect("the file is ours");
        answer
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Which libuci is at hand. Two things changed in 2023, one in March and one in August, and our reader does as
/// libuci does since then. The one in `libuci-sys` 1.0.5 is older.
#[derive(Clone, Copy, PartialEq)]
enum Age {
    /// An option that is set again stays in its place.
    Current,
    /// It went to the end of its section. And a section that was opened for the third time was forgotten, so that
    /// an option after that was "found before the first section".
    Old,
}

impl Age {
    fn of_libuci(scratch: &Scratch) -> Self {
        let file = b"config a n\noption x 1\noption y 1\noption x 22\n";
        let loaded = scratch.load(file).expect("libuci reads this");
        match loaded.package.sections[0].options[0].name.as_str() {
            "x" => Age::Current,
            _ => Age::Old,
        }
    }
}

/// The package without line numbers, which libuci does not tell.
fn without_lines(mut package: Package) -> Package {
    for section in &mut package.sections {
        section.line = 0;
        section.options.iter_mut().for_each(|option| option.line = 0);
    }
    package
}

fn sorted(mut package: Package) -> Package {
    for section in &mut package.sections {
        section.options.sort_by(|one, other| one.name.cmp(&other.name));
    }
    package
}

/// Section types that libuci exports such that it cannot read them again; ours are quoted.
fn has_quoted_type(package: &Package) -> bool {
    package.sections.iter().any(|section| section.kind.contains(['\'', '"', '\\', '#', ';']))
}

/// What differs between libuci's answer to a file and ours, if anything does.
fn difference(file: &[u8], scratch: &Scratch, age: Age) -> Option<String> {
    let libuci = scratch.load(file);
    let ours = uci::parse(file).map(without_lines);
    let (loaded, package) = match (libuci, ours) {
        (Ok(loaded), Ok(package)) => (loaded, package),
        (Err(message), Err(error)) if message == printed(&error) => return None,
        (Err(message), _) if age == Age::Old && message.contains(NO_SECTION) => {
            let start = before_refusal(file, scratch);
            return match uci::parse(start) {
                Ok(package) if package.sections.is_empty() => Some(message),
                _ => difference(start, scratch, age),
            };
        }
        (libuci, ours) => return Some(format!("libuci: {libuci:#?}\nours: {ours:#?}")),
    };

    let same = match age {
        Age::Current => loaded.package == package,
        Age::Old => sorted(loaded.package.clone()) == sorted(package.clone()),
    };
    if !same {
        return Some(format!("libuci: {:#?}\nours: {package:#?}", loaded.package));
    }
    let exported = uci::export(&package);
    let comparable = loaded.package == package && !has_quoted_type(&package);
    if comparable && loaded.export != exported {
        return Some(format!("exports differ\nlibuci: {:?}\nours: {exported:?}", loaded.export));
    }
    let read_back = uci::parse(&exported).map(without_lines);
    if read_back.as_ref() != Ok(&package) {
        return Some(format!("export is not read back\nours: {package:#?}\nthen: {read_back:#?}"));
    }
    None
}

/// An error in the form in which libuci prints it.
fn printed(error: &ParseError) -> String {
    let ParseError { line, byte, message, .. } = error;
    format!("Parse error ({message}) at line {line}, byte {byte}")
}

/// The start of a file up to the `option` or `list` that libuci refuses.
fn before_refusal<'a>(file: &'a [u8], scratch: &Scratch) -> &'a [u8] {
    let keywords = (0..file.len()).rev().filter(|place| b"ol".contains(&file[*place]));
    let mut starts = keywords.map(|place| &file[..place]);
    starts.find(|start| scratch.load(start).is_ok()).unwrap_or_default()
}

/// Takes pieces out of the file as long as it still makes a difference.
fn reduce(mut file: Vec<u8>, differs: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut size = file.len();
    while size > 0 {
        let mut start = 0;
        while start < file.len() {
            let mut smaller = file.clone();
            smaller.drain(start..file.len().min(start + size));
            if differs(&smaller) {
                file = smaller;
            } else {
                start += size;
            }
        }
        size /= 2;
    }
    file
}

fn number_from<T: std::str::FromStr>(variable: &str, default: T) -> T {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}

#[test]
fn same_answer_as_libuci() {
    let count = number_from("UCI_TEST_COUNT", COUNT);
    let seed = number_from("UCI_TEST_SEED", SEED);
    println!("UCI_TEST_COUNT={count} UCI_TEST_SEED={seed}");
    let scratch = Scratch::new();
    let age = Age::of_libuci(&scratch);
    let mut random = Random::new(seed);
    let mut accepted = 0;
    let mut with_options = 0;
    let mut refused = BTreeMap::<String, usize>::new();

    for number in 0..count {
        let file = files::file(&mut random);
        if difference(&file, &scratch, age).is_some() {
            let file = reduce(file, |file| difference(file, &scratch, age).is_some());
            let what = difference(&file, &scratch, age).unwrap_or_default();
            panic!("file {number} of seed {seed}, made smaller: b\"{}\"\n{what}", file.escape_ascii());
        }
        let libuci = scratch.load(&file);
        match libuci {
            Ok(Loaded { package, .. }) => {
                accepted += 1;
                with_options += usize::from(package.sections.iter().any(|section| !section.options.is_empty()));
            }
            Err(message) => {
                let reason = message.split_once(") at line ").map_or(message.as_str(), |(reason, _)| reason);
                let reason = reason.trim_start_matches("Parse error (").to_owned();
                *refused.entry(reason).or_default() += 1;
            }
        }
    }

    let rejected: usize = refused.values().sum();
    println!("accepted by both: {accepted} ({with_options} with options); refused by both: {rejected}, of these");
    for (reason, times) in &refused {
        println!("{times:7} {reason}");
    }
    // Files that are nearly all good or nearly all bad would make this test a weak one.
    assert!(accepted * 10 >= count, "only {accepted} of {count} files were accepted");
    assert!(rejected * 10 >= count, "only {rejected} of {count} files were refused");
    if count >= COUNT {
        let missing: Vec<_> = REASONS.iter().filter(|reason| !refused.contains_key(**reason)).collect();
        assert!(missing.is_empty(), "no file was refused for {missing:?}");
    }
}
