// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::config::{Settings, load, show, uci};

/// The settings with this section `channel`, and what is said about it.
fn read(options: &str) -> (Settings, Vec<String>) {
    let text = format!("config relay\n option enabled '0'\nconfig channel 'phone'\n{options}");
    let (settings, problems) = load::settings(&uci::parse(text.as_bytes()).unwrap());
    let found = problems.iter().map(|p| format!("{} {}", p.severity as u8, p.text)).collect();
    (settings, found)
}

const VALUES: template::Values<'_> = ["Alarm \"1\"", "hot", "a@b.c", "pump", "7", "now", "ops!:x", "urgent", "s3cret/"];

/// The pages ask for the fields that the list of services names, and for no others.
#[test]
fn what_the_list_of_services_asks_for_is_enough() {
    for service in services::entries().iter().filter(|service| service["id"] != CUSTOM) {
        let said = |key: &str| service[key].as_str().unwrap();
        assert!(!said("name").is_empty() && said("docs").starts_with("https://"), "{service}");
        let own = service["own"] == true;
        let mut options = format!(" option service '{}'\n", said("id"));
        if own && said("base").is_empty() {
            options += " option url 'https://own.example'\n";
        }
        if !said("to").is_empty() {
            options += " option to 'ops'\n";
        }
        options += match said("token") {
            "address" => " option token 'https://hooks.example/secret'\n",
            "required" => " option token 's3cret'\n",
            _ => "",
        };
        let (settings, found) = read(&options);
        assert!(found.is_empty() && settings.accounts.len() == 1, "{options}{found:?}");
        if own && !said("base").is_empty() {
            let (settings, found) = read(&format!("{options} option url 'https://own.example'\n"));
            assert!(found.is_empty() && settings.accounts[0].host == "own.example", "{options}{found:?}");
        }
    }
}

#[test]
fn each_service_needs_little() {
    for (options, address, body) in [
        (
            "ntfy'\n option to 'ops",
            "https://ntfy.sh/",
            r#"{"message":"hot","priority":3,"title":"Alarm \"1\"","topic":"ops!:x"}"#,
        ),
        (
            "ntfy'\n option url 'https://push.example:8443/n/'\n option to 'ops'\n option priority 'urgent",
            "https://push.example:8443/n/",
            r#"{"message":"hot","priority":5,"title":"Alarm \"1\"","topic":"ops!:x"}"#,
        ),
        (
            "telegram'\n option token 't'\n option priority 'low'\n option to '1",
            "https://api.telegram.org/bots3cret%2F/sendMessage",
            r#"{"chat_id":"ops!:x","disable_notification":true,"text":"Alarm \"1\"\n\nhot"}"#,
        ),
        (
            "gotify'\n option token 't'\n option url 'https://g.example",
            "https://g.example/message",
            r#"{"message":"hot","priority":5,"title":"Alarm \"1\""}"#,
        ),
        (
            "pushover'\n option token 't'\n option priority 'urgent'\n option to 'u",
            "https://api.pushover.net/1/messages.json",
            "token=s3cret%2F&user=ops%21%3Ax&title=Alarm%20%221%22&message=hot&priority=2&retry=60&expire=3600",
        ),
        (
            "slack'\n option token 'https://hooks.slack.com/services/T/B/x",
            "s3cret/",
            r#"{"mrkdwn":false,"text":"Alarm \"1\"\nhot"}"#,
        ),
        (
            "discord'\n option token 'https://discord.com/api/webhooks/1/x",
            "s3cret/",
            r#"{"allowed_mentions":{"parse":[]},"content":"Alarm \"1\"\nhot"}"#,
        ),
        (
            "matrix'\n option token 't'\n option url 'https://m.example'\n option to '!r:m",
            "https://m.example/_matrix/client/v3/rooms/ops!:x/send/m.room.message/7",
            r#"{"body":"Alarm \"1\"\nhot","msgtype":"m.text"}"#,
        ),
        (
            "homeassistant'\n option token 't'\n option url 'https://ha.example",
            "https://ha.example/api/webhook/s3cret%2F",
            r#"{"device":"pump","from":"a@b.c","id":"7","priority":"urgent","subject":"Alarm \"1\"","text":"hot","time":"now"}"#,
        ),
        (
            "custom'\n option url 'https://x.example/a?k={token}'\n option token 't'\n option content 'form'\n option body 't={subject}",
            "https://x.example/a?k=s3cret%2F",
            "t=Alarm%20%221%22",
        ),
    ] {
        let (settings, found) = read(&format!(" option service '{options}'\n"));
        assert_eq!(
            found.iter().filter(|text| !text.contains("no account has default")).count(),
            0,
            "{options}: {found:?}"
        );
        let account = &settings.accounts[0];
        let channel = account.channel.as_ref().unwrap();
        assert_eq!(*channel.address(&VALUES, &Secret::new("s3cret/".into())), address);
        let place = if channel.content == Content::Form { Place::Form } else { Place::Json };
        assert_eq!(*template::fill(&channel.body, place, &VALUES), body);
        assert!(!account.host.is_empty() && account.port != 0 && !account.general && account.verify);
        // What is shown is the same again, apart from the secret.
        let shown = show(&settings);
        let secret = account.password.expose();
        assert!(secret.len() < 5 || !shown.contains(secret), "{shown}");
        let (again, _) = load::settings(&uci::parse(shown.replace("********", secret).as_bytes()).unwrap());
        assert_eq!(again.accounts[0].channel, account.channel, "{shown}");
    }
}

#[test]
fn what_is_wrong_with_a_channel_is_said() {
    for (options, expected) in [
        ("", "2 option service is missing: it is one of ntfy, telegram,"),
        (" option service 'signal'\n", "2 option service 'signal' is not one of ntfy, telegram,"),
        (" option service 'ntfy'\n", "2 option to is missing: the topic"),
        (
            " option service 'ntfy'\n option to 'x'\n option tokens 'y'\n",
            "1 unknown option 'tokens' in section 'channel'",
        ),
        (
            " option service 'ntfy'\n option to 'x'\n option priority 'loud'\n",
            "2 option priority 'loud' is not one of low, normal, high, urgent",
        ),
        (
            " option service 'ntfy'\n option to 'x'\n option url 'http://n/'\n",
            "2 option url 'http://n/' is not a URL such as https://push.example.com; a channel is always encrypted",
        ),
        (
            " option service 'ntfy'\n option to 'x'\n option url 'https://n/#a'\n",
            "2 option url 'https://n/#a' is not a URL",
        ),
        (" option service 'ntfy'\n option to 'x'\n option body 'x'\n", "1 body has no effect with service 'ntfy'"),
        (" option service 'ntfy'\n option to 'x'\n option verify '0'\n", "1 unknown option 'verify'"),
        (" option service 'gotify'\n option token 't'\n", "2 option url is missing: the address of the server"),
        (
            " option service 'gotify'\n option url 'https://g'\n",
            "1 channel 'phone' has no token, so its messages stay in the queue",
        ),
        (" option service 'slack'\n", "1 channel 'phone' has no token"),
        (
            " option service 'slack'\n option token 'xoxb'\n",
            "2 the token of channel 'phone' is not a URL: the token is the whole address",
        ),
        (
            " option service 'slack'\n option token 'https://h/x'\n option url 'https://h/x'\n",
            "2 option url has no effect with service 'slack': its address is secret",
        ),
        (
            " option service 'slack'\n option token 'https://h/x'\n option priority 'high'\n",
            "1 option priority has no effect with service 'slack'",
        ),
        (
            " option service 'slack'\n option token 'https://h/x'\n option picture '1'\n",
            "1 service 'slack' takes no picture with a message",
        ),
        (
            " option service 'slack'\n option token 'https://h/x'\n option to 'y'\n",
            "1 option to has no effect with service 'slack'",
        ),
        (" option service 'custom'\n option url 'https://h/'\n", "2 option body is missing"),
        (
            " option service 'custom'\n option url 'https://h/'\n option body '{\"a\":{text}}'\n",
            "2 option body is not JSON in which each placeholder stands within quotation marks",
        ),
        (
            " option service 'custom'\n option url 'https://h/'\n option body '{\"a\":\"{sender}\"}'\n",
            "2 body contains {sender}, which is not a placeholder: subject, text,",
        ),
        (
            " option service 'custom'\n option url 'https://{to}/'\n option method 'GET'\n",
            "2 option url 'https://{to}/' is not a URL",
        ),
        (
            " option service 'custom'\n option url 'https://h/'\n option method 'GET'\n option body 'x'\n",
            "2 a request with method 'GET' has no body",
        ),
        (
            " option service 'custom'\n option url 'https://h/'\n option method 'GET'\n list header 'X y'\n",
            "2 list header 'X y' is not a header field",
        ),
        (
            " option service 'custom'\n option url 'https://h/'\n option method 'GET'\n list header 'Host: y'\n",
            "2 list header 'Host: y': the gateway writes the field Host itself",
        ),
        (
            " option service 'custom'\n option url 'https://h/'\n option method 'GET'\n list header 'X: {token}'\n",
            "1 channel 'phone' has no token",
        ),
    ] {
        let (_, found) = read(options);
        assert!(found.iter().any(|text| text.starts_with(expected)), "{options}: {found:?}");
        assert!(found.iter().all(|text| !text.contains("xoxb")), "{found:?}");
    }
}

#[test]
fn a_channel_is_named_like_an_account() {
    let text = "config relay\n option enabled '0'\nconfig channel 'phone'\n option service 'ntfy'\n option to 'x'\n\
                config account 'a'\n option host 'h'\n option from 'me@example.com'\n\
                config route\n list account 'phone'\nconfig device 'd'\n list account 'phone'\n list ip '10.0.0.1'\n";
    let (settings, problems) = load::settings(&uci::parse(text.as_bytes()).unwrap());
    assert_eq!(problems.iter().map(|p| &p.text).collect::<Vec<_>>(), [""; 0]);
    // The first account is one for mail: the gateway's own address is that of the first.
    let names: Vec<&str> = settings.accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["a", "phone"]);
    assert!(uci::parse(text.replace("'a'", "'phone'").as_bytes()).is_err(), "no other section has its name");
}
