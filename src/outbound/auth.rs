//! Login at the provider: PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195) over AUTH (RFC 4954).

use mail_send::{Credentials, SmtpClient};
use smtp_proto::{AUTH_CRAM_MD5, AUTH_LOGIN, AUTH_PLAIN, EhloResponse, Response};
use zeroize::Zeroizing;

use super::client::broken;
use super::known;
use super::reply::Reply;
use super::verdict::{Judged, REFUSED_LOGIN, Stage, Trouble, TroubleKind, judge};
use super::wire::Wire;
use crate::config::Account;

/// In the order of preference. All of them run inside TLS, so the simplest is the best.
const MECHANISMS: [(u64, &str); 3] = [(AUTH_PLAIN, "PLAIN"), (AUTH_LOGIN, "LOGIN"), (AUTH_CRAM_MD5, "CRAM-MD5")];

/// Logs in with the first mechanism that the server offers and does not call unknown.
///
/// # Errors
/// [`TroubleKind::Login`] when the login is refused or impossible, others when the server is busy or gone.
pub async fn log_in(
    client: &mut SmtpClient<Wire>,
    account: &Account,
    offers: &EhloResponse<String>,
) -> Result<(), Trouble> {
    let Some(username) = &account.username else { return Ok(()) };
    let host = &account.host;
    let mut refused: Option<Reply> = None;
    for (mechanism, name) in MECHANISMS.iter().filter(|(bit, _)| offers.auth_mechanisms & bit != 0) {
        let response = dialogue(client, *mechanism, name, username, account.password.expose()).await;
        let response = response.map_err(|e| broken(&e, &client.stream, host, "the login", client.timeout))?;
        let reply = Reply::new(&response, client.stream.last_line());
        match reply.code {
            235 => return Ok(()),
            // RFC 4954 section 4: mechanism unknown (504) or not usable; another may be. A reply of the table is about
            // the password, which another mechanism would only show once more.
            500..=504 | 534 if known::find(&reply).is_none() => refused = Some(reply),
            _ => {
                refused = Some(reply);
                break;
            }
        }
    }
    let Some(reply) = refused else {
        let reason = format!("{host} offers no login that is known here (PLAIN, LOGIN, CRAM-MD5); check host and port");
        return Err(Trouble::new(TroubleKind::Login, reason));
    };
    let shown = account.shown_username();
    Err(match judge(&reply, host, Stage::Login) {
        Judged::Account(trouble) if trouble.kind == TroubleKind::Busy => {
            Trouble::new(trouble.kind, format!("{host} can't check the login now: {reply}"))
        }
        Judged::Account(trouble) => {
            let whose = format!("{REFUSED_LOGIN} of '{shown}'");
            Trouble { reason: trouble.reason.replacen(REFUSED_LOGIN, &whose, 1), ..trouble }
        }
        Judged::Message(_) => Trouble::new(
            TroubleKind::Login,
            format!("{host} answered the login of '{shown}' with: {reply}; check host and port"),
        ),
    })
}

/// One exchange; returns the reply that ends it.
async fn dialogue(
    client: &mut SmtpClient<Wire>,
    mechanism: u64,
    name: &str,
    username: &str,
    password: &str,
) -> mail_send::Result<Response<String>> {
    let credentials = Credentials::new(username, password);
    let mut answers = match mechanism {
        // Prompts of LOGIN differ in wording and language: the first asks for the name, the second for the password.
        AUTH_LOGIN => vec![base64(password), base64(username)],
        _ => Vec::new(),
    };
    let mut reply = match mechanism {
        AUTH_PLAIN => {
            let response = Zeroizing::new(credentials.encode(mechanism, "")?);
            client.cmd(Zeroizing::new(format!("AUTH {name} {}\r\n", *response)).as_bytes()).await?
        }
        _ => client.cmd(format!("AUTH {name}\r\n").as_bytes()).await?,
    };
    for _ in 0..2 {
        if reply.code != 334 {
            break;
        }
        let response = match answers.pop() {
            Some(answer) => answer,
            None if mechanism == AUTH_CRAM_MD5 => Zeroizing::new(credentials.encode(mechanism, reply.message.trim())?),
            // The server wants more than the mechanism has: cancel (RFC 4954 section 4).
            None => Zeroizing::new("*".to_string()),
        };
        reply = client.cmd(Zeroizing::new(format!("{}\r\n", *response)).as_bytes()).await?;
    }
    Ok(reply)
}

fn base64(text: &str) -> Zeroizing<String> {
    Zeroizing::new(crate::message::base64(text.as_bytes()))
}
