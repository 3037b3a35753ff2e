// SPDX-License-Identifier: Apache-2.0
//! Login at the provider: PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195) over AUTH (RFC 4954), and with tokens instead of
//! a password XOAUTH2 (Google's and Microsoft's) or OAUTHBEARER (RFC 7628).

use smtp_proto::{AUTH_CRAM_MD5, AUTH_LOGIN, AUTH_OAUTHBEARER, AUTH_PLAIN, AUTH_XOAUTH2, EhloResponse};
use zeroize::Zeroizing;

use super::reply::{Answer, Reply, SmtpCommand};
use super::reply_table;
use super::verdict::{Judged, REFUSED_LOGIN, Stage, judge};
use super::wire::{SmtpClient, broken};
use crate::config::Account;
use crate::message::base64::decoded;
use crate::net::{Trouble, TroubleKind};
use crate::oauth::keeper;
use crate::secrets::Secret;
use crate::system::md5::hmac_md5;

/// In order of preference. All of them run inside TLS, so the simplest is the best.
const MECHANISMS: [(u64, &str); 3] = [(AUTH_PLAIN, "PLAIN"), (AUTH_LOGIN, "LOGIN"), (AUTH_CRAM_MD5, "CRAM-MD5")];

const HOST_AND_PORT: &str = "check host and port";

/// Logs in with the first mechanism that the server offers and does not reject as unknown.
///
/// # Errors
/// [`TroubleKind::Login`] when the login is refused or impossible, others when the server is busy or gone.
pub async fn log_in(client: &mut SmtpClient, account: &Account, offers: &EhloResponse<String>) -> Result<(), Trouble> {
    if account.misses_password() {
        return Err(no_password(account));
    }
    let Some(username) = &account.username else { return Ok(()) };
    if account.oauth.is_some() {
        return log_in_with_token(client, account, username, offers).await;
    }
    let host = &account.host;
    let mut refused: Option<Reply> = None;
    for (mechanism, name) in MECHANISMS.iter().filter(|(bit, _)| offers.auth_mechanisms & bit != 0) {
        let reply = dialogue(client, *mechanism, name, username, account.password.expose()).await;
        let reply = reply.map_err(|e| broken(&e, &client.stream, host, SmtpCommand::Auth.name(), client.timeout))?;
        match (reply.answers(SmtpCommand::Auth), reply.code) {
            (Answer::Yes, _) => return Ok(()),
            // RFC 4954 section 4: mechanism unknown (504) or not usable; another may work. A reply of the table is on
            // the password, which another mechanism would only expose again.
            (_, 500..=504 | 534) if reply_table::find(&reply).is_none() => refused = Some(reply),
            _ => {
                refused = Some(reply);
                break;
            }
        }
    }
    let Some(reply) = refused else {
        let reason = format!("{host} offers no supported login mechanism (PLAIN, LOGIN, CRAM-MD5)");
        return Err(Trouble::new(TroubleKind::Login, reason).remedy(HOST_AND_PORT));
    };
    Err(refused_login(&reply, host, account.shown_username()))
}

/// It has not been entered yet, or the stored one cannot be used.
pub(super) fn no_password(account: &Account) -> Trouble {
    let name = &account.name;
    let remedy = account.refused_passwords().unwrap_or_else(|| format!("enter it: smtprelay password {name}"));
    let what = match account.channel {
        Some(_) => format!("channel '{name}' has no token"),
        None => format!("account '{name}' has no password"),
    };
    Trouble::new(TroubleKind::Login, what).remedy(remedy)
}

/// Describes the refusal of a login.
fn refused_login(reply: &Reply, host: &str, username: &str) -> Trouble {
    match judge(reply, host, Stage::Login) {
        Judged::Account(trouble) if trouble.kind == TroubleKind::Busy => {
            Trouble::new(trouble.kind, format!("{host} cannot verify the login now: {reply}"))
        }
        Judged::Account(mut trouble) => {
            let whose = format!("{REFUSED_LOGIN} of '{username}'");
            trouble.why.what = trouble.why.what.replacen(REFUSED_LOGIN, &whose, 1);
            trouble
        }
        Judged::Message(_) => {
            Trouble::new(TroubleKind::Login, format!("{host} answered the login of '{username}' with: {reply}"))
                .remedy(HOST_AND_PORT)
        }
    }
}

/// A refused token is renewed once; when the new one is refused as well, the user has to sign in again.
async fn log_in_with_token(
    client: &mut SmtpClient,
    account: &Account,
    username: &str,
    offers: &EhloResponse<String>,
) -> Result<(), Trouble> {
    let host = &account.host;
    // Microsoft only knows the first, Google both.
    let Some(mechanism) = [AUTH_XOAUTH2, AUTH_OAUTHBEARER].into_iter().find(|m| offers.auth_mechanisms & m != 0) else {
        let reason = format!("{host} offers no login with tokens (XOAUTH2, OAUTHBEARER)");
        let remedy = format!("{HOST_AND_PORT}, or set auth 'password'");
        return Err(Trouble::new(TroubleKind::Login, reason).remedy(remedy));
    };
    let mut refused: Option<(Secret, Reply)> = None;
    for _ in 0..2 {
        let Some(token) = keeper::token(account, refused.as_ref().map(|(token, _)| token)).await? else { break };
        client.stream.mask.hide(token.expose());
        client.stream.mask.hide(&xoauth2(username, &token));
        client.stream.mask.hide(&oauthbearer(username, host, account.port, &token));
        let reply = show_token(client, mechanism, username, account, &token).await;
        let reply = reply.map_err(|e| broken(&e, &client.stream, host, SmtpCommand::Auth.name(), client.timeout))?;
        match (reply.code, reply.status) {
            _ if reply.is_yes(SmtpCommand::Auth) => {
                keeper::taken(account).await;
                return Ok(());
            }
            // Microsoft: the token is fine, but SMTP is disabled for the mailbox. The table of replies has this case.
            (535, Some([5, 7, 139])) => return Err(refused_login(&reply, host, username)),
            (530..=538, _) => refused = Some((token, reply)),
            _ => return Err(refused_login(&reply, host, username)),
        }
    }
    let Some((_, reply)) = refused else { return Ok(()) };
    // The mail server refuses the tokens that the authorization server issues.
    let remedy = format!("sign in again as {username}: smtprelay login {}", account.name);
    let reason = format!("{host} {REFUSED_LOGIN} of '{username}' with a new token: {reply}");
    Err(Trouble::new(TroubleKind::Login, reason).remedy(remedy))
}

/// One exchange with a token; returns the reply that ends it.
async fn show_token(
    client: &mut SmtpClient,
    mechanism: u64,
    username: &str,
    account: &Account,
    token: &Secret,
) -> mail_send::Result<Reply> {
    let (name, first, after_error) = match mechanism {
        AUTH_XOAUTH2 => ("XOAUTH2", xoauth2(username, token), ""),
        // RFC 7628 section 3.2.3: a lone ^A, in base64.
        _ => ("OAUTHBEARER", oauthbearer(username, &account.host, account.port, token), "AQ=="),
    };
    let first = base64(&first);
    let mut reply = client.ask(Zeroizing::new(format!("AUTH {name} {}\r\n", *first)).as_bytes()).await?;
    // The error comes as a challenge with JSON in it, which adds nothing to the reply to our response.
    if reply.answers(SmtpCommand::Auth) == Answer::Continue {
        reply = client.ask(format!("{after_error}\r\n").as_bytes()).await?;
    }
    Ok(reply)
}

/// Google's and Microsoft's form: `user=` name ^A `auth=Bearer ` token ^A ^A.
fn xoauth2(username: &str, token: &Secret) -> Zeroizing<String> {
    Zeroizing::new(format!("user={username}\x01auth=Bearer {}\x01\x01", token.expose()))
}

/// RFC 7628 section 3.1, with the name as required by RFC 5801 section 4.
fn oauthbearer(username: &str, host: &str, port: u16, token: &Secret) -> Zeroizing<String> {
    let name = username.replace('=', "=3D").replace(',', "=2C");
    Zeroizing::new(format!("n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {}\x01\x01", token.expose()))
}

/// One exchange; returns the reply that ends it.
async fn dialogue(
    client: &mut SmtpClient,
    mechanism: u64,
    name: &str,
    username: &str,
    password: &str,
) -> mail_send::Result<Reply> {
    let mut answers = match mechanism {
        // Prompts of LOGIN differ in wording and language: the first asks for the name, the second for the password.
        AUTH_LOGIN => vec![base64(password), base64(username)],
        // Some servers do not read the initial response (RFC 4954 section 4), and ask for it.
        AUTH_PLAIN => vec![plain(username, password)],
        _ => Vec::new(),
    };
    let initial = answers.first().filter(|_| mechanism == AUTH_PLAIN);
    let initial = initial.map(|response| Zeroizing::new(format!(" {}", **response))).unwrap_or_default();
    let mut reply = client.ask(Zeroizing::new(format!("AUTH {name}{}\r\n", *initial)).as_bytes()).await?;
    for _ in 0..2 {
        if reply.answers(SmtpCommand::Auth) != Answer::Continue {
            break;
        }
        let response = match answers.pop() {
            Some(answer) => answer,
            None if mechanism == AUTH_CRAM_MD5 => cram_md5(username, password, reply.text().trim()),
            // The server wants more than the mechanism provides: cancel (RFC 4954 section 4).
            None => Zeroizing::new("*".to_string()),
        };
        reply = client.ask(Zeroizing::new(format!("{}\r\n", *response)).as_bytes()).await?;
    }
    Ok(reply)
}

/// RFC 4616 section 2, with nobody to act for. That of mail-send brings a table of 12 KB.
fn plain(username: &str, password: &str) -> Zeroizing<String> {
    base64(&Zeroizing::new(format!("\0{username}\0{password}")))
}

/// The response to a challenge: the user name and the challenge's HMAC (RFC 2195 section 2). mail-send takes a password of
/// exactly 64 bytes for a longer one, which the server refuses.
fn cram_md5(username: &str, password: &str, challenge: &str) -> Zeroizing<String> {
    let challenge = decoded(challenge.as_bytes());
    base64(&format!("{username} {}", hmac_md5(password.as_bytes(), &challenge)))
}

fn base64(text: &str) -> Zeroizing<String> {
    Zeroizing::new(crate::message::base64(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::outbound::wire::{Stream, Wire};

    /// The lines that a server gets which says `replies`, each to the next one.
    async fn said(mechanism: u64, name: &str, replies: &[&str]) -> (Reply, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = Wire::new(Stream::Plain(stream));
        let mut client = SmtpClient { stream, timeout: std::time::Duration::from_secs(60) };
        let server = async {
            let mut server = BufReader::new(listener.accept().await.unwrap().0);
            let mut lines = Vec::new();
            for reply in replies {
                let mut line = String::new();
                server.read_line(&mut line).await.unwrap();
                lines.push(line.trim_end().to_string());
                server.write_all(reply.as_bytes()).await.unwrap();
            }
            lines
        };
        let (reply, lines) = tokio::join!(dialogue(&mut client, mechanism, name, "u", "p"), server);
        (reply.unwrap(), lines)
    }

    #[tokio::test]
    async fn a_server_that_ignores_the_initial_response_gets_it_again() {
        let (reply, lines) = said(AUTH_PLAIN, "PLAIN", &["334 \r\n", "235 ok\r\n"]).await;
        assert_eq!((reply.code, lines.join("|").as_str()), (235, "AUTH PLAIN AHUAcA==|AHUAcA=="));
        // One that still wants more gets nothing else.
        let (reply, lines) = said(AUTH_PLAIN, "PLAIN", &["334 \r\n", "334 \r\n", "501 no\r\n"]).await;
        assert_eq!((reply.code, lines.join("|").as_str()), (501, "AUTH PLAIN AHUAcA==|AHUAcA==|*"));
        let (reply, lines) = said(AUTH_LOGIN, "LOGIN", &["334 x\r\n", "334 y\r\n", "235 ok\r\n"]).await;
        assert_eq!((reply.code, lines.join("|").as_str()), (235, "AUTH LOGIN|dQ==|cA=="));
    }

    #[test]
    fn cram_md5_with_passwords_of_any_length() {
        let challenge = "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+";
        let expected = "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw";
        assert_eq!(cram_md5("tim", "tanstaaftanstaaf", challenge).as_str(), expected);
        // RFC 2104 section 2: a key is hashed if it is longer than a block of 64 bytes.
        let padded = format!("{:\0<64}", "tanstaaftanstaaf");
        assert_eq!(cram_md5("tim", &padded, challenge).as_str(), expected);
    }

    #[test]
    fn the_example_of_rfc_4616() {
        assert_eq!(plain("tim", "tanstaaftanstaaf").as_str(), "AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
    }

    #[test]
    fn the_example_of_google_and_that_of_rfc_7628() {
        let token = Secret::new("ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg".into());
        assert_eq!(
            base64(&xoauth2("someuser@example.com", &token)).as_str(),
            "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
        );
        let token = Secret::new("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==".into());
        assert_eq!(
            oauthbearer("user@example.com", "server.example.com", 143, &token).as_str(),
            "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
        );
        assert!(oauthbearer("a=b,c", "h", 1, &token).starts_with("n,a=a=3Db=2Cc,"));
    }
}
