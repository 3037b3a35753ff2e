// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Bytes from hexadecimal digits; spaces are ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

type Members = Vec<(&'static str, Value)>;

/// Tables captured between ubusd, the `ubus` command and a program: bytes, and members in order.
fn seen() -> Vec<(Vec<u8>, Members)> {
    vec![
        (
            hex("83000013 0002746f 00000000 6140622e 64650000  87000011 00077665 72626f73 65000000 01000000"),
            vec![("to", json!("a@b.de")), ("verbose", json!(true))],
        ),
        (
            hex("8700000d 00026f6b 00000000 01000000  85000010 0004636f 64650000 000000fa
                 8300000f 00036d73 67000000 4f6b0000"),
            vec![("ok", json!(true)), ("code", json!(250)), ("msg", json!("Ok"))],
        ),
        (
            hex("83000016 00026964 00000000 736d7470 72656c61 79000000
                 8200001c 00046461 74610000 8300000f 00057374 61746500 6f6b0000"),
            vec![("id", json!("smtprelay")), ("data", json!({ "state": "ok" }))],
        ),
        // The signature of an object: a method without arguments, and one with two.
        (
            hex("82000010 00067374 61747573 00000000
                 82000030 00047465 73740000 85000010 0002746f 00000000 00000003
                 85000014 00077665 72626f73 65000000 00000007"),
            vec![("status", json!({})), ("test", json!({ "to": 3, "verbose": 7 }))],
        ),
        (Vec::new(), Vec::new()),
    ]
}

#[test]
fn what_was_seen_on_the_wire_is_read_and_written_byte_for_byte() {
    for (bytes, members) in seen() {
        let mut out = Writer::default();
        members.iter().for_each(|(name, value)| out.member(name, value));
        let written = out.finish().unwrap();
        assert_eq!(written, bytes, "{members:?}");
        let table: Map<String, Value> = members.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        assert_eq!(decode(&bytes), Ok(Value::Object(table)));
    }
}

#[test]
fn each_type_has_its_json() {
    let mut out = Writer::default();
    let table = [
        ("nothing", json!(null)),
        ("list", json!([1, "two", [], {}, null])),
        ("table", json!({ "a": { "b": false } })),
        ("small", json!(-1)),
        ("large", json!(i64::MIN)),
        ("beyond", json!(u64::MAX)),
        ("real", json!(0.25)),
        ("text", json!("ä€")),
    ];
    table.iter().for_each(|(name, value)| out.member(name, value));
    let back = decode(&out.finish().unwrap()).unwrap();
    for (name, value) in &table {
        let wanted = if *name == "beyond" { json!(18446744073709551615.0) } else { value.clone() };
        assert_eq!(back[*name], wanted, "{name}");
    }
    // Two bytes: others send them, we do not.
    assert_eq!(decode(&hex("8600000a 00016e00 fffe0000")), Ok(json!({ "n": -2 })));
    // Not a number.
    assert_eq!(decode(&hex("88000010 00016e00 7ff80000 00000000")), Ok(json!({ "n": null })));
    // Text that is not UTF-8, and text after a NUL.
    assert_eq!(decode(&hex("8300000b 00016e00 61ff0000")), Ok(json!({ "n": "a\u{fffd}" })));
    assert_eq!(decode(&hex("8300000c 00016e00 61006200")), Ok(json!({ "n": "a" })));
    let nul = encode(&json!({ "n": "a\0b" })).unwrap();
    assert_eq!(decode(&nul), Ok(json!({ "n": "a\u{fffd}b" })));
}

#[test]
fn what_is_no_table_is_malformed() {
    let wrong = [
        ("a length below its own word", "83000003 00016e00"),
        ("a length beyond the end", "83000013 00016e00 61000000"),
        ("half a word", "8300"),
        ("no name header", "03000008 61620000"),
        ("a member without a name", "8300000a 00000000 61000000"),
        ("a name beyond the end", "8300000a 00ff6e00 61000000"),
        ("a name without its NUL", "8300000a 00016e61 61000000"),
        ("a text without its NUL", "8300000c 00016e00 61616161"),
        ("a text without even a NUL", "83000008 00016e00"),
        ("a number of three bytes", "8500000b 00016e00 61616100"),
        ("a boolean of two", "8700000a 00016e00 01010000"),
        ("a type that does not exist", "89000009 00016e00 01000000"),
    ];
    for (what, bytes) in wrong {
        assert_eq!(decode(&hex(bytes)), Err(Malformed), "{what}");
    }
}

/// Arrays nested this many times.
fn nested(times: usize) -> Value {
    (0..times).fold(json!([]), |inner, _| json!([inner]))
}

#[test]
fn nesting_has_an_end_on_both_ways() {
    let deepest = json!({ "a": nested(DEPTH_LIMIT - 1) });
    assert_eq!(decode(&encode(&deepest).unwrap()), Ok(deepest));
    assert_eq!(encode(&json!({ "a": nested(DEPTH_LIMIT) })), Err(Unfit));
    // As deep as a message can be.
    let mut bytes = Vec::new();
    for _ in 0..80_000 {
        let length = u32::try_from(bytes.len() + 8).unwrap();
        let mut outer = (0x8100_0000 | length).to_be_bytes().to_vec();
        outer.extend([0; 4]);
        if length > 8 * 1000 {
            break;
        }
        outer.append(&mut bytes);
        bytes = outer;
    }
    let mut table = (0x8100_0000 | u32::try_from(bytes.len() + 8).unwrap()).to_be_bytes().to_vec();
    table.extend(*b"\0\x01n\0");
    table.append(&mut bytes);
    assert_eq!(decode(&table), Err(Malformed));
}

#[test]
fn what_is_too_large_is_unfit_and_takes_no_memory() {
    assert_eq!(encode(&json!({ "a": "x".repeat(MESSAGE_LIMIT) })), Err(Unfit));
    assert_eq!(encode(&json!({ "x".repeat(1 << 16): 1 })), Err(Unfit));
    assert_eq!(encode(&json!({ "a": { "": 1 } })), Err(Unfit));
    assert_eq!(encode(&json!([])), Err(Unfit));
    let mut out = Writer::default();
    (0..100).for_each(|_| out.member("a", &json!("x".repeat(100_000))));
    assert!(out.len() <= MESSAGE_LIMIT);
    assert_eq!(out.finish(), Err(Unfit));
}

/// Any JSON that survives a round trip: no NUL, no member without a name, no number that becomes a floating-point one.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::from),
        "[^\0]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map("[^\0]{1,9}", inner, 0..8)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

fn tables() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[^\0]{1,9}", values(), 0..8)
        .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into())
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(table in tables()) {
        let bytes = encode(&table).unwrap();
        prop_assert_eq!(bytes.len() % 4, 0);
        prop_assert_eq!(decode(&bytes), Ok(table));
    }

    #[test]
    fn what_is_cut_off_is_malformed_or_shorter(table in tables(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&table).unwrap();
        let cut = cut.index(bytes.len() + 1);
        if let Ok(read) = decode(&bytes[..cut]) {
            // Cut between two members, or in the padding after one.
            let whole = table.as_object().unwrap();
            for (name, value) in read.as_object().unwrap() {
                prop_assert_eq!(Some(value), whole.get(name));
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
        let _ = Attributes(&bytes).count();
    }

    #[test]
    fn changed_bytes_never_panic_and_what_is_read_can_be_written(
        table in tables(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = encode(&table).unwrap();
        prop_assume!(!bytes.is_empty());
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(read) = decode(&bytes) {
            let again = encode(&read).unwrap();
            prop_assert_eq!(decode(&again), Ok(read));
        }
    }
}
