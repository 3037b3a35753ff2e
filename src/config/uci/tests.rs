// SPDX-License-Identifier: Apache-2.0
//! The golden cases, each rule and limit separately, and properties of every package and every file: it can be read
//! back from its canonical form, and nothing panics.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A file that uses most of the grammar: quotes, lists, comments, several lines, anonymous and repeated sections.
const REAL: &str = r#"# mail for the pump house
package smtprelay

config relay 'main'
	option enabled '1'
	option hostname ''
	option spool "/var/spool/smtprelay" # RAM
	option message_limit 25M

config listener 'lan'
	list interface 'lan'
	list interface guest
	option port '25' ; option tls none

config account 'gmail'
	option username 'me@example.com'
	option password 'it'\''s "secret" \ #1;'
	option note "two
lines, and a third \
joined"

config device
	option mac '00:11:22:33:44:55'
	option name Pump\ house\
_PLC
	list recipient 'ops@example.com'

c device
	o ip "192.0.2.7"
	l recipient ''

config relay 'main'
	option admin 'root'
"#;

fn error_of(file: &[u8]) -> String {
    parse(file).expect_err("must be refused").to_string()
}

/// `tests/data/uci-golden.json` contains the output of OpenWrt's `uci export` for each input.
#[test]
fn golden_cases() {
    let cases: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/data/uci-golden.json")).expect("golden file");
    let cases = cases.as_array().expect("an array of cases");
    assert_eq!(cases.len(), 52);
    for case in cases {
        let text = |key: &str| case.get(key).and_then(|value| value.as_str()).expect("a string").to_owned();
        let name = text("name");
        match parse(text("input").as_bytes()) {
            Ok(package) => {
                assert_eq!(case["rc"], 0, "{name} must be refused");
                let exported = String::from_utf8(export(&package)).expect("the cases are UTF-8");
                assert_eq!(exported.trim(), text("export"), "{name}");
            }
            Err(error) => {
                assert_eq!(case["rc"], 1, "{name} must be accepted: {error}");
                let ParseError { line, byte, message, .. } = error;
                let printed = format!("uci: Parse error ({message}) at line {line}, byte {byte}");
                assert_eq!(printed, text("error"), "{name}");
            }
        }
    }
}

#[test]
fn real_file() {
    let package = parse(REAL.as_bytes()).expect("valid");
    let headers: Vec<_> = package.sections.iter().map(|s| (s.line, s.kind.as_str(), s.name.as_deref())).collect();
    assert_eq!(
        headers,
        [
            (4, "relay", Some("main")),
            (10, "listener", Some("lan")),
            (15, "account", Some("gmail")),
            (22, "device", None),
            (28, "device", None),
        ]
    );
    let options: Vec<_> = package
        .sections
        .iter()
        .flat_map(|section| &section.options)
        .map(|option| (option.line, option.name.as_str(), option.value.text().into_owned()))
        .collect();
    let expected = [
        (5, "enabled", "1"),
        (7, "spool", "/var/spool/smtprelay"),
        (8, "message_limit", "25M"),
        (33, "admin", "root"),
        (12, "interface", "lan guest"),
        (13, "port", "25"),
        (13, "tls", "none"),
        (16, "username", "me@example.com"),
        (17, "password", r#"it's "secret" \ #1;"#),
        (18, "note", "two\nlines, and a third joined"),
        (23, "mac", "00:11:22:33:44:55"),
        (24, "name", "Pump house_PLC"),
        (26, "recipient", "ops@example.com"),
        (29, "ip", "192.0.2.7"),
        (30, "recipient", ""),
    ];
    assert_eq!(options, expected.map(|(line, name, text)| (line, name, text.to_owned())));
}

#[test]
fn lookups() {
    let package = parse(REAL.as_bytes()).expect("valid");
    let devices: Vec<_> = package.of_kind("device").map(|section| section.line).collect();
    assert_eq!(devices, [22, 28]);
    let listener = package.of_kind("listener").next().expect("there is one");
    assert_eq!(listener.get("interface").expect("set").value.items(), [b"lan".as_slice(), b"guest"]);
    assert_eq!(listener.get("port").expect("set").value.items(), [b"25"]);
    assert_eq!(listener.get("Port"), None);
}

#[test]
fn changed_option_keeps_its_place_and_has_its_last_line() {
    for (file, value) in [
        ("config a n\noption x 1\noption y 2\nlist x 3\n", "1 3"),
        ("config a n\nlist x 1\noption y 2\noption x 3\n", "3"),
        ("config a n\noption x 1\noption y 2\noption x 34\n", "34"),
    ] {
        let package = parse(file.as_bytes()).expect("valid");
        let options: Vec<_> = package.sections[0]
            .options
            .iter()
            .map(|option| (option.name.as_str(), option.line, option.value.text()))
            .collect();
        assert_eq!(options, [("x", 4, value.into()), ("y", 3, "2".into())]);
    }
}

#[test]
fn error_tells_where_the_command_begins() {
    for (file, origin) in [
        ("config a\noption x 'y\n\n\n", 2),
        ("config a\noption x 'y\nz' 3\n", 2),
        ("config a\noption x 'y\nz' ; option\n", 3),
        ("config a\nmistake", 2),
    ] {
        let error = parse(file.as_bytes()).expect_err("must be refused");
        assert_eq!(error.origin, origin, "{file:?}");
    }
}

/// `cfg01` and the hash of the type: the name that `uci show -X` prints for the section.
#[test]
fn anonymous_section_is_reopened_by_its_made_up_name() {
    let package = parse(b"config a\nconfig a cfg01b606\noption x 1\n").expect("valid");
    assert_eq!(package.sections.len(), 1);
    assert_eq!(package.sections[0].name, None);
    assert_eq!(package.sections[0].options.len(), 1);
    let other_number = parse(b"config a\nconfig a cfg02b606\n").expect("valid");
    assert_eq!(other_number.sections.len(), 2);
    // Of two sections with one name the first is used.
    let file = b"config a cfg02b606\nconfig a\nconfig a cfg02b606\noption x 1\n";
    let package = parse(file).expect("valid");
    assert_eq!(package.sections[0].options.len(), 1);
}

#[test]
fn errors_in_places_that_the_golden_cases_leave_out() {
    assert_eq!(error_of(b"config"), "line 0, byte 0: config without name");
    assert_eq!(error_of(b"package"), "line 0, byte 0: package without name");
    assert_eq!(error_of(b"c a\n o"), "line 1, byte 1: option without name");
    assert_eq!(error_of(b"config\n"), "line 1, byte 0: invalid command");
    assert_eq!(error_of(b"config \n"), "line 1, byte 8: insufficient arguments");
    assert_eq!(error_of(b"config a\x80\n"), "line 1, byte 10: invalid character in type field");
    assert_eq!(error_of(b"config a n ;\n"), "line 1, byte 12: invalid command");
    assert_eq!(error_of(b"config a 'n\n\nm\n"), "line 3, byte 15: EOF with unterminated '");
    assert_eq!(error_of(b"config a \"n\\"), "line 0, byte 12: EOF with unterminated \"");
}

/// The vertical tab is white space, and a backslash joins lines that end with CR LF, too.
#[test]
fn unusual_white_space() {
    let package = parse(b"\x0c config a\x0bn\n\x0boption x 1\\\r\n2\x0c\r\n").expect("valid");
    assert_eq!(package.sections[0].name.as_deref(), Some("n"));
    assert_eq!(package.sections[0].options[0].value, Value::One(b"12".to_vec()));
}

/// The rest of a line after a NUL is lost, and the next line takes its place. This should not be relied on, but LuCI
/// and the `uci` command read such a file this way.
#[test]
fn nul_bytes() {
    let joined = b"config a n\0 m\noption x 1\n";
    assert_eq!(error_of(joined), "line 1, byte 19: too many arguments");
    let skipped = parse(b"\0rest\nconfig a n\n").expect("the line is skipped");
    assert_eq!(skipped.sections[0].line, 2);
    let in_quotes = b"config a 'n\n\0\nm'\n";
    assert_eq!(error_of(in_quotes), "line 1, byte 12: EOF with unterminated '");
    let many = b"#\0\n".repeat(30);
    assert_eq!(error_of(&many), "line 0, byte 0: too many NUL bytes");
}

/// Only what is in the line buffer is lost after a NUL. The buffer has room for 31 bytes, then for 63.
#[test]
fn nul_byte_in_a_long_line() {
    let lost = |count: usize| "y".repeat(count);
    let file = format!("config a n\0{}\noption x 1\0{}2\n", lost(20), lost(52));
    let package = parse(file.as_bytes()).expect("valid");
    assert_eq!(package.sections[0].options[0].value.text(), "12");
}

#[test]
fn bounds() {
    assert!(parse(&vec![b'\n'; MAX_FILE]).is_ok());
    assert_eq!(error_of(&vec![b'\n'; MAX_FILE + 1]), "line 1, byte 0: the file is larger than 1 MiB");
    let one_line = |length: usize| [b"config a n\noption x '", vec![b'y'; length].as_slice(), b"'"].concat();
    assert!(parse(&one_line(MAX_FILE - 23)).is_ok());

    let sections = |count: usize| "config a\n".repeat(count).into_bytes();
    assert!(parse(&sections(MAX_SECTIONS)).is_ok());
    assert_eq!(error_of(&sections(MAX_SECTIONS + 1)), "line 4097, byte 9: more than 4096 sections");

    let options = |count: usize| {
        let options: String = (0..count).map(|number| format!("option o{number} 1\n")).collect();
        format!("config a\n{options}").into_bytes()
    };
    assert!(parse(&options(MAX_OPTIONS)).is_ok());
    assert_eq!(error_of(&options(MAX_OPTIONS + 1)), "line 1026, byte 15: more than 1024 options in one section");

    let values = |count: usize| format!("config a\n{}", "list x 1\n".repeat(count)).into_bytes();
    assert!(parse(&values(MAX_VALUES)).is_ok());
    assert_eq!(error_of(&values(MAX_VALUES + 1)), "line 32770, byte 9: more than 32768 values in one file");
}

#[test]
fn messages_name_the_bounds() {
    assert_eq!(MAX_FILE, 1024 * 1024);
    for (problem, bound) in [
        (error::TOO_MANY_SECTIONS, MAX_SECTIONS),
        (error::TOO_MANY_OPTIONS, MAX_OPTIONS),
        (error::TOO_MANY_VALUES, MAX_VALUES),
    ] {
        let message = problem.at(1, 0, 1).message;
        assert!(message.contains(&format!(" {bound} ")), "{message}");
    }
}

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

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![bytes(1..80).prop_map(Value::One), vec(bytes(0..40), 1..4).prop_map(Value::Many),]
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
