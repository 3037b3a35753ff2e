// SPDX-License-Identifier: Apache-2.0
//! The copy-back flow: a person signs in with a browser, which is then redirected to an address of its own machine
//! where nothing listens; this address contains the code, and is copied back to us.
//!
//! RFC 8252 (section 7.3: loopback redirects of native apps) with PKCE (RFC 7636), so that the code is useless to
//! anyone else. Google has no device flow for mail, and allows loopback addresses with any port for clients of the type
//! "Desktop app".

use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::form::{Form, value_of};
use super::store::StoredLogin;
use super::token::{Server, shown};
use crate::config::{Account, Issuer, OAuth};
use crate::message::base64;
use crate::net::{Trouble, TroubleKind};
use crate::secrets::Secret;

/// Where the browser is redirected to. Nothing has to listen there.
const REDIRECT: &str = "http://127.0.0.1:47110/";
/// Maximum length in bytes of an address that is copied back.
pub const ADDRESS_LIMIT: usize = 8 << 10;

/// A flow that has been started.
#[derive(Debug)]
pub struct CopyBack {
    /// Where the person signs in.
    pub url: String,
    /// Distinguishes our answer from a foreign one (RFC 6749 section 10.12).
    state: Secret,
    /// RFC 7636 section 4.1.
    verifier: Secret,
}

/// This number of random bytes, in characters that are allowed in every URL (RFC 4648 section 5).
fn random(bytes: usize) -> Result<String, Trouble> {
    let mut random = Zeroizing::new(vec![0; bytes]);
    getrandom::fill(&mut random)
        .map_err(|e| Trouble::new(TroubleKind::Setup, format!("the system provides no random numbers: {e}")))?;
    Ok(base64url(&random))
}

fn base64url(bytes: &[u8]) -> String {
    let text = Zeroizing::new(base64(bytes));
    text.chars()
        .filter_map(|c| match c {
            '+' => Some('-'),
            '/' => Some('_'),
            '=' => None,
            other => Some(other),
        })
        .collect()
}

/// RFC 7636 section 4.2, method S256.
fn challenge(verifier: &str) -> String {
    base64url(digest(&SHA256, verifier.as_bytes()).as_ref())
}

impl CopyBack {
    /// Builds the URL for the browser (RFC 6749 section 4.1.1).
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn begin(oauth: &OAuth, account: &Account, address: &str) -> Result<Self, Trouble> {
        let (state, verifier) = (random(16)?, random(32)?);
        let query = Form::new()
            .add("response_type", "code")
            .add("client_id", &oauth.client_id)
            .add("redirect_uri", REDIRECT)
            .add("scope", &oauth.scope)
            .add("state", &state)
            .add("code_challenge", &challenge(&verifier))
            .add("code_challenge_method", "S256")
            // Without it, a second login of the same person may not yield a refresh token.
            .add("prompt", "consent")
            .add("access_type", if oauth.issuer == Issuer::Google { "offline" } else { "" })
            .add("login_hint", account.username.as_deref().unwrap_or_default());
        let gap = if address.contains('?') { '&' } else { '?' };
        let url = format!("{address}{gap}{}", query.text());
        Ok(Self { url, state: Secret::new(state), verifier: Secret::new(verifier) })
    }

    /// Exchanges the copied address for a login (RFC 6749 section 4.1.3). It can be called again with another text.
    ///
    /// # Errors
    /// Why there is no login, in words.
    pub async fn finish(&self, copied: &str, server: &Server<'_>, account: &Account) -> Result<StoredLogin, Trouble> {
        let code = self.code(copied).map_err(|text| Trouble::new(TroubleKind::Login, text))?;
        let form = Form::new()
            .add("grant_type", "authorization_code")
            .add("code", &code)
            .add("redirect_uri", REDIRECT)
            .add("code_verifier", self.verifier.expose());
        match server.tokens(form).await? {
            Ok(tokens) => StoredLogin::of(server.oauth(), tokens, account),
            Err(refusal) => Err(server.trouble(&refusal)),
        }
    }

    /// The code in the address.
    fn code(&self, copied: &str) -> Result<Zeroizing<String>, String> {
        let copied = copied.trim();
        if copied.len() > ADDRESS_LIMIT {
            return Err("this is much longer than the address that the browser shows at the end".into());
        }
        let ours = value_of(copied, "state").is_some_and(|state| state.as_str() == self.state.expose());
        if let Some(error) = value_of(copied, "error").filter(|_| ours) {
            return Err(format!("the sign-in was declined, or the client is not allowed: {}", shown(&error)));
        }
        match value_of(copied, "code").filter(|code| !code.is_empty()) {
            Some(code) if ours => Ok(code),
            Some(_) => Err("this address belongs to another login: copy the address that this login led to".into()),
            None => Err(format!(
                "this is not the address that the browser shows at the end: that one begins with {REDIRECT} and contains 'code='"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> CopyBack {
        let [state, verifier] = ["S-1", "v"].map(|text| Secret::new(text.into()));
        CopyBack { url: String::new(), state, verifier }
    }

    #[test]
    fn the_example_of_rfc_7636_appendix_b() {
        let octets = [
            116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37, 77, 105, 214, 191,
            240, 91, 88, 5, 88, 83, 132, 141, 121,
        ];
        assert_eq!(base64url(&octets), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
        assert_eq!(random(32).unwrap().len(), 43);
        assert_ne!(random(32).unwrap(), random(32).unwrap());
    }

    #[test]
    fn only_the_address_of_this_login_is_taken() {
        let flow = begun();
        let code = |text: &str| flow.code(text).map(|code| code.to_string());
        assert_eq!(code(" http://127.0.0.1:47110/?state=S-1&code=4%2F0Ab&scope=x \n").unwrap(), "4/0Ab");
        assert_eq!(code("code=c&state=S-1").unwrap(), "c");
        assert!(code("http://127.0.0.1:47110/?state=S-2&code=c").unwrap_err().contains("another login"));
        assert!(code("http://127.0.0.1:47110/?code=c").unwrap_err().contains("another login"));
        assert!(code("http://127.0.0.1:47110/?error=access_denied&state=S-1").unwrap_err().contains("access_denied"));
        for text in ["", "4/0Ab", "https://accounts.google.com/o/oauth2/v2/auth", "?state=S-1&code="] {
            assert!(code(text).unwrap_err().contains("not the address"), "{text}");
        }
        assert!(code(&"x".repeat(ADDRESS_LIMIT + 1)).unwrap_err().contains("much longer"));
        assert!(!format!("{:?}", flow).contains("S-1"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_copied_has_an_answer(text: String) {
            let _ = begun().code(&text);
        }
    }
}
