// SPDX-License-Identifier: Apache-2.0
//! `smtprelay import`: the configurations of other relays in `tests/import` become settings with the real `uci`, which
//! the program accepts, and with which a mail of a device arrives. `tests/import/run.sh` looks at what is printed.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::ask::{Ran, SOON};
use support::client::Client;
use support::provider::{Message, Provider, TlsMode};
use support::relay::Relay;

/// A configuration, and what must have come of it.
struct Case {
    /// The folder in `tests/import`.
    name: &'static str,
    file: &'static str,
    account: &'static str,
    tls: TlsMode,
    /// As the provider gets it: without the blanks of an app password.
    login: (&'static str, &'static str),
    /// The envelope sender of a mail from `plc@plant.local`.
    sender: &'static str,
}

const POSTFIX: &str = "etc/postfix/main.cf";

const CASES: [Case; 11] = [
    Case {
        name: "controllino",
        file: POSTFIX,
        account: "provider",
        tls: TlsMode::StartTls,
        login: ("plant.alarms@gmail.com", "abcdefghijklmnop"),
        sender: "plant.alarms@gmail.com",
    },
    Case {
        name: "gmail",
        file: POSTFIX,
        account: "provider",
        tls: TlsMode::StartTls,
        login: ("office@example.com", "it's a $ecret"),
        sender: "office@example.com",
    },
    Case {
        name: "office365",
        file: POSTFIX,
        account: "provider",
        tls: TlsMode::StartTls,
        login: ("scanner@example.com", "Pa:ss:word"),
        sender: "scanner@example.com",
    },
    Case {
        name: "wrapper",
        file: POSTFIX,
        account: "provider",
        tls: TlsMode::Implicit,
        login: ("relay@example.net", "tiger{7}"),
        sender: "plc@plant.local",
    },
    Case {
        name: "proxmox",
        file: POSTFIX,
        account: "provider",
        tls: TlsMode::Implicit,
        login: ("cluster@fastmail.com", "q9w8e7"),
        sender: "cluster@fastmail.com",
    },
    Case {
        name: "nas",
        file: POSTFIX,
        account: "provider",
        tls: TlsMode::StartTls,
        login: ("nas", "static pass"),
        sender: "nas@nas-owner.example",
    },
    Case {
        name: "msmtp",
        file: "etc/msmtprc",
        account: "gmx",
        tls: TlsMode::StartTls,
        login: ("house@gmx.de", "p4ss#word"),
        sender: "house@gmx.de",
    },
    Case {
        name: "ssmtp",
        file: "etc/ssmtp/ssmtp.conf",
        account: "provider",
        tls: TlsMode::StartTls,
        login: ("me@yahoo.com", "abcdefghijklmnop"),
        sender: "me@yahoo.com",
    },
    Case {
        name: "emailrelay",
        file: "etc/config/emailrelay",
        account: "provider",
        tls: TlsMode::StartTls,
        login: ("user@provider.example", "p=a9s+s2 wörd"),
        sender: "plc@plant.local",
    },
    Case {
        name: "dma",
        file: "etc/dma/dma.conf",
        account: "provider",
        tls: TlsMode::StartTls,
        login: ("host17@hoster.example", "pass|with:signs"),
        sender: "host17@hoster.example",
    },
    Case {
        name: "nullmailer",
        file: "etc/nullmailer/remotes",
        account: "provider",
        tls: TlsMode::Implicit,
        login: ("box@provider.example", "pass \"phrase\""),
        sender: "plc@plant.local",
    },
];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder with the real `uci`; says why there is none.
fn uci() -> Option<PathBuf> {
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        println!("skipped: qemu-mips 7.2 hangs in getifaddrs, which check asks");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uci");
    let built = Command::new(top().join("scripts/uci.sh")).arg(&folder).output().expect("start scripts/uci.sh");
    if !built.status.success() {
        println!("skipped: scripts/uci.sh: {}", String::from_utf8_lossy(&built.stderr));
        return None;
    }
    Some(folder)
}

/// Settings that are written by `uci`, in the folder of a relay.
struct Written {
    relay: Relay,
    uci: PathBuf,
    folder: PathBuf,
}

impl Written {
    /// The settings as they are shipped, with folders of their own.
    fn shipped(uci: &Path) -> Written {
        let relay = Relay::builder().prepare();
        let folder = relay.dir().join("set");
        fs::create_dir(&folder).unwrap();
        let written = Written { relay, uci: uci.to_owned(), folder };
        fs::copy(top().join("files/etc/config/smtprelay"), written.file()).unwrap();
        fs::set_permissions(written.file(), PermissionsExt::from_mode(0o600)).unwrap();
        for (option, folder) in [("spool", "spool"), ("secrets", "secrets")] {
            written.set("set", &format!("main.{option}"), &written.relay.dir().join(folder).display().to_string());
        }
        written.set("set", "main.user", "root");
        written
    }

    fn file(&self) -> PathBuf {
        self.folder.join("smtprelay")
    }

    /// `uci set` and the like, and commits it.
    fn set(&self, command: &str, name: &str, value: &str) {
        let changes = self.relay.dir().join("changes");
        let run = |words: &[&str]| {
            let mut uci = Command::new(self.uci.join("uci"));
            let done = uci.arg("-c").arg(&self.folder).arg("-t").arg(&changes).args(words).status().expect("start uci");
            assert!(done.success() || command == "delete", "uci {words:?}");
        };
        match command {
            "delete" => run(&["-q", "delete", &format!("smtprelay.{name}")]),
            _ => run(&[command, &format!("smtprelay.{name}={value}")]),
        }
        run(&["commit", "smtprelay"]);
    }

    /// `smtprelay import --apply` for a configuration, in the shell and with the awk of busybox or of the system.
    fn import(&self, case: &Case, busybox: bool) -> Ran {
        // The program may be one for another processor.
        let program = self.relay.program();
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.display())).collect();
        let wrapper = self.relay.dir().join("smtprelay");
        fs::write(&wrapper, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "))).unwrap();
        fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
        let root = top().join("tests/import").join(case.name).join("root");
        let mut path = format!("{}:{}", self.uci.display(), std::env::var("PATH").unwrap());
        let script = top().join("files/usr/libexec/smtprelay/import");
        let mut command = Command::new(&script);
        if busybox {
            let tools = self.relay.dir().join("busybox");
            fs::create_dir(&tools).unwrap();
            let installed = Command::new("busybox").arg("--list").output().expect("busybox").stdout;
            // Those that the script calls.
            for tool in ["awk", "cp", "mkdir", "mktemp", "rm", "sed", "wc"] {
                assert!(String::from_utf8_lossy(&installed).lines().any(|line| line == tool), "busybox {tool}");
                std::os::unix::fs::symlink("/bin/busybox", tools.join(tool)).unwrap();
            }
            path = format!("{}:{path}", tools.display());
            command = Command::new("busybox");
            command.arg("ash").arg(&script);
        }
        let mut script = command;
        script.args(["--apply", "--config"]).arg(self.file()).arg("--root").arg(&root).arg(root.join(case.file));
        script.env("PATH", path).env("SMTPRELAY_PROGRAM", wrapper);
        script.env("SMTPRELAY_SHARE", top().join("files/usr/share/smtprelay/import"));
        Ran::of(script.output().expect("start the script"))
    }

    /// Puts the stand-in in place of the real server of an account.
    fn stand_in(&self, account: &str, provider: &Provider) {
        self.set("set", &format!("{account}.host"), "127.0.0.1");
        self.set("set", &format!("{account}.port"), &provider.port().to_string());
        self.set("set", &format!("{account}.ca_file"), &provider.certs().ca_file().display().to_string());
        self.set("delete", &format!("{account}.fingerprint"), "");
    }

    /// Starts the gateway with the settings, and has a device send a mail.
    async fn send(&mut self, sender: &str) {
        self.set("delete", "lan.interface", "");
        self.set("delete", "lan.address", "");
        self.set("add_list", "lan.address", "127.0.0.1");
        self.set("set", "lan.port", "0");
        fs::copy(self.file(), self.relay.config_path()).unwrap();
        let checked = Ran::of(self.relay.command(&["check"]).await);
        assert_eq!(checked.code, 0, "{checked:?}");
        self.relay.restart().await;
        let mut device = Client::greeted(self.relay.addr()).await;
        device.dialogue(&[("EHLO plc", 250)]).await;
        device.send(sender, &["ops@example.com"], "Subject: Pump alarm\r\n\r\nPump 3 has stopped.\r\n").await;
    }
}

fn checked(messages: &[Message], case: &Case) {
    let message = &messages[0];
    assert_eq!(message.login.as_deref(), Some(case.login.0), "{}", case.name);
    assert_eq!(message.sender, case.sender, "{}", case.name);
    assert_eq!(message.recipients, ["ops@example.com"], "{}", case.name);
    assert_eq!(message.header("Subject").as_deref(), Some("Pump alarm"), "{}", case.name);
}

#[tokio::test]
async fn each_configuration_delivers_a_mail() {
    let Some(uci) = uci() else { return };
    let busybox = Path::new("/bin/busybox").exists();
    if !busybox {
        println!("skipped: /bin/busybox is not there");
    }
    for case in &CASES {
        let provider = Provider::builder().tls(case.tls).login(case.login.0, case.login.1).start().await;
        let mut written = Written::shipped(&uci);
        let ran = written.import(case, false);
        assert_eq!(ran.code, 0, "{}: {ran:?}", case.name);
        assert!(!format!("{ran:?}").contains(case.login.1), "{}: {ran:?}", case.name);
        let text = fs::read_to_string(written.file()).unwrap();
        assert!(text.contains(case.login.0) && !text.contains(case.login.1), "{}: {text}", case.name);
        if busybox {
            let again = written.import(case, true);
            assert_eq!(again.code, 0, "{}: {again:?}", case.name);
            assert_eq!(fs::read_to_string(written.file()).unwrap(), text, "{}", case.name);
        }
        written.stand_in(case.account, &provider);
        written.send("plc@plant.local").await;
        checked(&provider.wait_for_messages(1, SOON).await, case);
        assert_eq!(provider.complaints(), Vec::<String>::new(), "{}", case.name);
    }
}

/// The account of a sender of its own gets the mail of that sender, with its own password.
#[tokio::test]
async fn a_route_by_sender_comes_along() {
    let Some(uci) = uci() else { return };
    let first = Provider::builder().login("house@gmx.de", "p4ss#word").start().await;
    let second = Provider::builder().tls(TlsMode::Implicit).login("office", "other").start().await;
    let mut written = Written::shipped(&uci);
    let case = CASES.iter().find(|case| case.name == "msmtp").unwrap();
    let ran = written.import(case, false);
    assert_eq!(ran.code, 0, "{ran:?}");
    written.stand_in("gmx", &first);
    written.stand_in("second", &second);
    written.send("second@office.example").await;
    let message = second.wait_for_messages(1, SOON).await.remove(0);
    assert_eq!((message.login.as_deref(), message.sender.as_str()), (Some("office"), "second@office.example"));
    assert!(first.messages().is_empty());
}

/// The program hands over to the script of the package, and says which package that is.
#[tokio::test]
async fn the_program_hands_over_to_the_script() {
    let relay = Relay::builder().prepare();
    let script = Path::new("/usr/libexec/smtprelay/import");
    if !script.exists() {
        let ran = Ran::of(relay.program().args(["import", "main.cf"]).output().unwrap());
        assert_eq!(ran.code, 69, "{ran:?}");
        assert!(ran.err.contains("install") && ran.err.contains("smtprelay-import"), "{ran:?}");
    }
    // In a mount namespace of its own, the script is where the package has it.
    let from = top().join("files/usr");
    let bound = format!(
        "for folder in libexec share; do mkdir -p /usr/$folder; mount --bind '{0}/'$folder /usr/$folder || exit 99; done; exec \"$@\"",
        from.display()
    );
    let program = relay.program();
    let mut isolated = Command::new("unshare");
    isolated.args(["--mount", "sh", "-c", &bound, "sh"]).arg(program.get_program()).args(program.get_args());
    let main = top().join("tests/import/controllino/root/etc/postfix/main.cf");
    isolated.args(["-c", "/tmp/none/smtprelay", "import"]).arg(&main);
    let Ok(output) = isolated.output() else {
        println!("skipped: there is no unshare");
        return;
    };
    let ran = Ran::of(output);
    if ran.code == 99 || ran.err.contains("unshare") {
        println!("skipped: no mount namespace: {}", ran.err);
        return;
    }
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("smtprelay.provider.username='plant.alarms@gmail.com'"), "{ran:?}");
    assert!(ran.out.contains("uci -c '/tmp/none' commit smtprelay"), "the option before the command: {ran:?}");
    assert!(ran.err.contains("smtp_tls_enforce_peername = no"), "{ran:?}");
}
