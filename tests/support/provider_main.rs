// SPDX-License-Identifier: Apache-2.0
//! A mail provider to try the relay with: takes messages over TLS and prints them.
//!
//! ```text
//! provider --port-file FILE --ca-out FILE [--user NAME --password WORD] [--tls implicit|starttls] [--count N]
//! ```
//!
//! Listens on a free port of 127.0.0.1, writes the CA of its certificate (PEM) and then its port (decimal) into the
//! files, and prints each message that it takes: a line with TLS version, cipher, login and envelope, then the
//! text as it came. Ends after N messages, or when it is asked to (SIGINT, SIGTERM): with status 0, or with status 1
//! when it had something to object to in the way they were sent. Status 2: it was called wrongly.
#![allow(dead_code, unused_imports)]

#[path = "certs.rs"]
mod certs;
#[path = "provider/mod.rs"]
mod provider;
#[path = "stream.rs"]
mod stream;
#[path = "watch.rs"]
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use provider::{Message, Provider, Record, TlsMode};
use tokio::signal::unix::{SignalKind, signal};

/// As good as for ever, for a wait that needs an end.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long clients may take to say QUIT after the last message.
const GOODBYE: Duration = Duration::from_secs(2);

struct Options {
    port_file: PathBuf,
    ca_out: PathBuf,
    user: Option<String>,
    password: Option<String>,
    tls: TlsMode,
    count: Option<usize>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("provider: {why}");
            eprintln!(
                "usage: provider --port-file FILE --ca-out FILE [--user NAME --password WORD] \
                 [--tls implicit|starttls] [--count N]"
            );
            return ExitCode::from(2);
        }
    };
    match serve(options).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("provider: {error}");
            ExitCode::from(2)
        }
    }
}

async fn serve(options: Options) -> std::io::Result<ExitCode> {
    let mut builder = Provider::builder().tls(options.tls);
    if let (Some(user), Some(password)) = (&options.user, &options.password) {
        builder = builder.login(user, password);
    }
    let provider = builder.start().await;
    std::fs::copy(provider.certs().ca_file(), &options.ca_out)?;
    // The port comes last: whoever waits for it finds the CA in place.
    publish(&options.port_file, &format!("{}\n", provider.port()))?;

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = print_messages(&provider, options.count) => result?,
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    for complaint in provider.complaints() {
        eprintln!("provider: {complaint}");
    }
    Ok(if provider.complaints().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints messages as they come until there were `count`, and the clients had time to say goodbye.
async fn print_messages(provider: &Provider, count: Option<usize>) -> std::io::Result<()> {
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        for message in provider.wait_for_messages(printed + 1, FOREVER).await.iter().skip(printed) {
            print(message)?;
            printed += 1;
        }
    }
    let all_closed = |record: &Record| record.connections.iter().all(|one| one.closed).then_some(());
    let goodbye = provider.wait_until("the end of all connections", FOREVER, all_closed);
    // A client may keep its connection for later: then it is not waited for.
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    Ok(())
}

/// Writes a file that appears complete or not at all.
fn publish(path: &Path, text: &str) -> std::io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}

fn print(message: &Message) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let tls = match &message.tls {
        Some(tls) => format!("{} {}", tls.version, tls.cipher),
        None => "no TLS".to_owned(),
    };
    let login = message.login.as_deref().unwrap_or("none");
    let to = message.recipients.join(">,<");
    writeln!(out, "--- {tls} login={login} from=<{}> to=<{to}> bytes={}", message.sender, message.data.len())?;
    out.write_all(&message.data)?;
    writeln!(out, "---")?;
    out.flush()
}

fn options() -> Result<Options, String> {
    let (mut port_file, mut ca_out, mut user, mut password, mut count) = (None, None, None, None, None);
    let mut tls = TlsMode::Implicit;
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port-file" => port_file = Some(PathBuf::from(value)),
            "--ca-out" => ca_out = Some(PathBuf::from(value)),
            "--user" => user = Some(value),
            "--password" => password = Some(value),
            "--count" => count = Some(value.parse().map_err(|_| format!("--count {value} is not a number"))?),
            "--tls" => {
                tls = match value.as_str() {
                    "implicit" => TlsMode::Implicit,
                    "starttls" => TlsMode::StartTls,
                    _ => return Err(format!("--tls {value}: only implicit and starttls")),
                }
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if user.is_some() != password.is_some() {
        return Err("--user and --password go together".to_owned());
    }
    let port_file = port_file.ok_or("--port-file is missing")?;
    let ca_out = ca_out.ok_or("--ca-out is missing")?;
    Ok(Options { port_file, ca_out, user, password, tls, count })
}
