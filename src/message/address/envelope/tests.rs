// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::message::address::list::mailboxes;
use proptest::prelude::*;

fn all(text: &str) -> Vec<String> {
    addresses(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Two addresses in every spelling that a device might use.
const TWO: [&str; 40] = [
    "<a@x.y>,<b@x.y>",
    "<a@x.y>, <b@x.y>",
    "<a@x.y> , <b@x.y>",
    "<a@x.y>;<b@x.y>",
    "<a@x.y>; <b@x.y>;",
    "<a@x.y> <b@x.y>",
    "<a@x.y><b@x.y>",
    "<a@x.y>,b@x.y",
    "<a@x.y>, b@x.y",
    "<a@x.y> b@x.y",
    "<a@x.y>b@x.y",
    "<a@x.y,b@x.y>",
    "<a@x.y, b@x.y>",
    "<a@x.y;b@x.y>",
    "<a@x.y b@x.y>",
    "<a@x.y <b@x.y>",
    "<<a@x.y>,<b@x.y>>",
    "a@x.y,b@x.y",
    "a@x.y, b@x.y",
    "a@x.y;b@x.y",
    "a@x.y; b@x.y",
    "a@x.y b@x.y",
    "a@x.y\tb@x.y",
    "a@x.y,<b@x.y>",
    "a@x.y:b@x.y",
    "a@x.y,,b@x.y,",
    ",a@x.y. b@x.y.",
    "\"a@x.y\",\"b@x.y\"",
    "A <a@x.y>, B <b@x.y>",
    "A <a@x.y> B <b@x.y>",
    "\"A, a\" <a@x.y>, \"B; b\" <b@x.y>",
    "Ops: a@x.y, B <b@x.y>;",
    "mailto:a@x.y, <mailto:b@x.y>",
    "<@r.s,@t.u:a@x.y>, @v.w:b@x.y",
    "a@x.y (Pump 3), b@x.y (c)",
    "<a@x.y (c)>,<b@x.y>",
    "<a@x.y>, TO:<b@x.y>",
    "<a@x.y>,<>,<b@x.y>",
    "a@x.y <a@x.y>, <b@x.y> b@x.y",
    "\"a@x.y\" <A@X.Y> (C), b@x.y",
];

#[test]
fn two_addresses_in_every_spelling() {
    for text in TWO {
        let found: Vec<String> = all(text).iter().map(|address| address.to_ascii_lowercase()).collect();
        assert_eq!(found, ["a@x.y", "b@x.y"], "{text}");
    }
}

#[test]
fn one_address_or_name() {
    for (text, expected) in [
        ("<ops@x.y>", "ops@x.y"),
        ("<ops@x.y", "ops@x.y"),
        (" < ops@x.y > ", "ops@x.y"),
        ("ops@x.y>", "ops@x.y"),
        ("<@a.b,@c.d:ops@x.y>", "ops@x.y"),
        ("@a.b:ops@x.y", "ops@x.y"),
        ("<ops@x.y.>", "ops@x.y"),
        ("<ops@x.y (c)>", "ops@x.y"),
        ("(c) ops@x.y", "ops@x.y"),
        ("<PLC 3 <ops@x.y>>", "ops@x.y"),
        ("PLC 3 <ops@x.y>", "ops@x.y"),
        ("PLC 3 ops@x.y", "ops@x.y"),
        ("<\"a, b\"@x.y>", "\"a, b\"@x.y"),
        ("\"a@b\"@x.y", "\"a@b\"@x.y"),
        ("<ops@[192.0.2.1]>", "ops@[192.0.2.1]"),
        ("<ops@[IPv6:2001:db8::1]>", "ops@[IPv6:2001:db8::1]"),
        ("prvs=1a2b=ops@x.y", "prvs=1a2b=ops@x.y"),
        ("j\u{fc}rgen@m\u{fc}ller.example", "j\u{fc}rgen@m\u{fc}ller.example"),
        ("<root>", "root"),
        ("root", "root"),
        ("\"root\"", "root"),
        ("root (c)", "root"),
    ] {
        assert_eq!(all(text), [expected], "{text}");
    }
    for nobody in ["", "<>", " , ;", "undisclosed-recipients:;", "(c)", "Ops <>"] {
        assert!(all(nobody).is_empty(), "{nobody}");
    }
    assert_eq!(all("root,<admin>; ops@x.y"), ["root", "admin", "ops@x.y"]);
}

#[test]
fn all_or_nothing() {
    for text in [
        "<a@x.y>,<bad address>",
        "a@x.y, b@",
        "a@x.y @b",
        "<a@x.y>,<b@x..y>",
        "a@b@c",
        "<a b@x.y>",
        "the night shift",
        "<night shift>",
        "a@x.y/b@x.y.",
        "a@x.y|b@x.y",
        // A name, or another recipient?
        "a@x.y root",
        "<a@x.y> root",
        "<a@x.y> root, b@x.y",
        "<a@x.y> \"root\"",
        "a@x.y, b@x.y root (c)",
        "a@x.y <b@x.y>",
        "\"a@x.y\" <b@x.y>",
        "<a@x.y (b@x.y)>",
        "a@x.y (b@x.y)",
        "b@x.y: a@x.y;",
        "[a@x.y]",
        "<a@b:c@x.y>",
        "<@a@b:c@x.y>",
        "<@a.b>",
        "<@a.b:>",
        "a\\@x b@x.y",
        "<x:y:a@x.y>",
    ] {
        assert!(addresses(text.as_bytes()).is_err(), "{text}: {:?}", addresses(text.as_bytes()));
    }
    let long = addresses(format!("<a\0 b@{}>", "x".repeat(1000)).as_bytes()).unwrap_err();
    assert!(long.starts_with("not a mail address: a  b@xxx") && long.len() < 300, "{long}");
}

proptest! {
    /// Whatever surrounds them: each address of the text is in the result, or there is no result.
    #[test]
    fn no_address_is_passed_over(
        parts in proptest::collection::vec(
            ("[<(\"]?", "[a-c]{1,2}@[x-z]{1,2}", "[>)\"]?", "[ ,;:<>()a.\"\t-]{1,4}"), 1..5
        ),
        before in "[ ,;:<>()a.\"@]{0,4}",
    ) {
        let middle: String = parts.iter().map(|(open, address, close, after)| format!("{open}{address}{close}{after}")).collect();
        let text = format!("{before} {middle}");
        if let Ok(found) = addresses(text.as_bytes()) {
            for (_, address, ..) in &parts {
                // Adjacent letters may make it longer.
                prop_assert!(found.iter().any(|f| f.contains(address.as_str())), "{}: {:?}", text, found);
            }
        }
    }

    #[test]
    fn what_is_found_is_an_address_or_a_name(text in "[\"\\\\()<>@.,;: a-c\r\n\t=?Q\u{e9}\\[\\]]{0,40}") {
        for address in addresses(text.as_bytes()).unwrap_or_default() {
            prop_assert!(is_address(&address) || is_address(&format!("{address}@x")), "{:?}", address);
        }
    }

    /// For a correct list, the envelope has the addresses that the header shows.
    #[test]
    fn as_a_header_is_read(names in proptest::collection::vec(("[a-c. ]{0,6}", "[a-c]{1,3}(\\.[a-c]{1,2})?@[a-c]{1,3}"), 1..5)) {
        let list: Vec<String> = names.iter().map(|(name, address)| format!("\"{name}\" <{address}>")).collect();
        let text = list.join(",\r\n ");
        let shown: Vec<String> = mailboxes(text.as_bytes()).into_iter().map(|mailbox| mailbox.address).collect();
        prop_assert_eq!(addresses(text.as_bytes()).unwrap(), shown);
    }

    #[test]
    fn a_lone_address_needs_not_be_taken_apart(value in "[ \t]?<?[a@.=?+!q\\-]{1,4}@[a.=?_q\\-]{1,6}>?[ .\r]?") {
        prop_assert_eq!(addresses(value.as_bytes()), taken_apart(value.as_bytes()));
    }

    #[test]
    fn any_bytes_can_be_read(value: Vec<u8>) {
        let _ = addresses(&value);
        without_route(&String::from_utf8_lossy(&value));
    }
}
