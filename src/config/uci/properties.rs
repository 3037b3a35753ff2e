// SPDX-License-Identifier: Apache-2.0
//! Properties of every package and every file: it can be read back from its canonical form, and nothing panics.

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::REAL;
use super::*;

/// A package without line numbers.
fn content(mut package: Package) -> Package {
    for section in &mut package.sections {
        section.line = 0;
        for option in &mut section.options {
            option.line = 0;
        }
    }
    package
}

/// Any type that a section can have: visible ASCII, also quotes and the like.
fn kind() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[!-~]{1,8}"]
}

fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => any::<u8>(),
        3 => proptest::sample::select(b"'\"\\#; \t\r\n\x0b\x0c".to_vec()),
        3 => b'a'..=b'z',
    ];
    vec(byte.prop_filter("NUL cannot be stored", |byte| *byte != 0), length)
}

fn value() -> impl Strategy<Value = super::Value> {
    prop_oneof![bytes(1..80).prop_map(super::Value::One), vec(bytes(0..40), 1..4).prop_map(super::Value::Many),]
}

fn section() -> impl Strategy<Value = Section> {
    // Names cannot begin with a `c`, so none is one that libuci generates for an anonymous section.
    let name = proptest::option::of("[abd-zA-Z0-9_][a-zA-Z0-9_]{0,12}");
    let options = proptest::collection::hash_map("[a-zA-Z0-9_]{1,12}", value(), 0..6);
    (kind(), name, options).prop_map(|(kind, name, options)| {
        let option = |(name, value)| Opt { name, value, line: 0 };
        Section { kind, name, line: 0, options: options.into_iter().map(option).collect() }
    })
}

fn package() -> impl Strategy<Value = Package> {
    vec(section(), 0..6).prop_map(|mut sections| {
        let mut seen = std::collections::HashSet::new();
        sections.retain(|section| section.name.as_ref().is_none_or(|name| seen.insert(name.clone())));
        Package { sections }
    })
}

/// One change to a file: some bytes at some place are replaced by others.
fn change() -> impl Strategy<Value = (prop::sample::Index, usize, Vec<u8>)> {
    let inserted = prop_oneof![
        bytes(0..4),
        vec(any::<u8>(), 0..3),
        proptest::sample::select(
            [
                "\nconfig a n\n",
                "\noption x ",
                "\nlist x ",
                " ; ",
                "';",
                "\\\n",
                "\\\r\n",
                "'\\''",
                "\0",
                "\nconfig device cfg040f15\n",
            ]
            .to_vec()
        )
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    (any::<prop::sample::Index>(), 0..4_usize, inserted)
}

proptest! {
    #[test]
    fn exported_package_is_read_back(package in package()) {
        let file = export(&package);
        let read = parse(&file).map(content);
        prop_assert_eq!(read, Ok(package), "{}", String::from_utf8_lossy(&file));
    }

    /// Changes in a real file, so that the damage gets deep into the grammar. What is still accepted is read
    /// back from its canonical form, and its lines are lines of the file.
    #[test]
    fn damaged_file_never_panics(changes in vec(change(), 0..6)) {
        let mut file = REAL.as_bytes().to_vec();
        for (place, removed, inserted) in changes {
            let start = place.index(file.len() + 1);
            let end = file.len().min(start + removed);
            file.splice(start..end, inserted);
        }
        let lines = u32::try_from(file.split(|byte| *byte == b'\n').count()).expect("a small file");
        match parse(&file) {
            Ok(package) => {
                for section in &package.sections {
                    prop_assert!((1..=lines).contains(&section.line));
                    for option in &section.options {
                        prop_assert!((1..=lines).contains(&option.line));
                    }
                }
                prop_assert_eq!(parse(&export(&package)).map(content), Ok(content(package)));
            }
            Err(error) => {
 prop_assert!(error.line <= lines && error.byte <= file.len());
 prop_assert!((1..=lines).contains(&error.origin));
 prop_assert!(!error.remedy.is_empty());
}
        }
    }

    #[test]
    fn noise_never_panics(file in vec(any::<u8>(), 0..300)) {
        let _ = parse(&file);
    }
}
