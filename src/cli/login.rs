// SPDX-License-Identifier: Apache-2.0
//! `smtprelay login ACCOUNT`: signs in to the provider, whether or not the gateway is running.

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;

use smtprelay::config::{Account, Settings};
use smtprelay::control::socket::ControlClient;
use smtprelay::oauth::login::{self, ADDRESS_LIMIT, CopyBack, Deed, Flow, sentence};
use smtprelay::system::json::json;
use tokio::runtime::Runtime;

use super::{complain, exit, fail, print, wait_for};

/// How many times a wrong address may be entered.
const TRIES: usize = 3;

/// Signs in for the account with this name.
pub fn login(name: &str, settings: &Settings, runtime: std::io::Result<Runtime>) -> ExitCode {
    let Some(account) = settings.accounts.iter().find(|account| account.name == name) else {
        let names: Vec<&str> = settings.accounts.iter().map(|account| account.name.as_str()).collect();
        let text = format!("no enabled account is named '{name}'; enabled accounts: {}", names.join(", "));
        return fail((exit::USAGE, text));
    };
    let signed_in = match runtime {
        Ok(runtime) => wait_for(&runtime, sign_in(account)),
        Err(error) => Err(error.to_string()),
    };
    if let Err(text) = signed_in {
        return fail((1, format!("login failed: {text}")));
    }
    // Messages that wait for this login are retried at once.
    let told = match ControlClient::connect(&settings.relay.spool) {
        Ok(Some(mut client)) => client.call("wake", json!({ "reason": "login" })).map(|_| true).map_err(|e| e.text),
        Ok(None) => Ok(false),
        Err(text) => Err(text),
    };
    if let Err(text) = told {
        complain(&format!("the gateway could not be notified and will use the login at its next attempt: {text}"));
    }
    print(&format!("account '{name}' is logged in\n"))
}

async fn sign_in(account: &Account) -> Result<(), String> {
    let flow = login::begin(account).await.map_err(|trouble| sentence(&trouble))?;
    let who = account.username.as_deref().unwrap_or_default();
    let (url, minutes) = (flow.url(), flow.time().as_secs().div_ceil(60));
    match flow {
        Flow::Device(ref device) => {
            let code = &device.user_code;
            say(&format!(
                "Open this page in a browser on any device, sign in as {who}, and enter the code:\n\n  {url}\n  {code}\n\nThe code is valid for {minutes} minutes. Waiting …\n"
            ));
        }
        Flow::CopyBack(_) => say(&format!(
            "Open this address in a browser and sign in as {who}:\n\n{url}\n\nAt the end the browser shows a page that it cannot load. This is expected: copy the complete address from the\naddress bar and paste it here.\n"
        )),
    }
    match flow {
        Flow::Device(device) => login::finish(Deed::Code(device), account).await.map_err(|trouble| sentence(&trouble)),
        Flow::CopyBack(copy_back) => copy_address(&copy_back, account).await,
    }
}

async fn copy_address(flow: &CopyBack, account: &Account) -> Result<(), String> {
    let mut last = "no address was entered".to_string();
    for _ in 0..TRIES {
        say("Address: ");
        let mut line = String::new();
        // Nothing else runs in this process, so reading may block.
        let read = std::io::stdin().lock().take(ADDRESS_LIMIT as u64 + 2).read_line(&mut line);
        if read.map_err(|error| error.to_string())? == 0 {
            break;
        }
        match login::finish(Deed::Address(flow, &line), account).await {
            Ok(()) => return Ok(()),
            Err(trouble) => last = sentence(&trouble),
        }
        complain(&last);
    }
    Err(last)
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // If nobody reads the output, nobody signs in either.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
