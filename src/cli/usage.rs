// SPDX-License-Identifier: Apache-2.0
//! The help: the one place that lists commands, their options and the exit codes. The parser takes from it which option
//! belongs to which command, `scripts/manual.py` makes the manual page from it.

/// The whole help. A command begins with two blanks, what belongs to it is indented further.
pub const HELP: &str = "\
smtprelay: mail gateway for devices that do not support modern mail providers
usage: smtprelay COMMAND [--config FILE | -c FILE]
  setup ADDRESS [--account NAME] [--provider NAME] [--host NAME] [--port NUMBER] [--tls MODE] [--client-id ID]
                       set up an account for your mail address: finds the provider, asks for the password, writes the
                       settings, starts the gateway and sends a test mail to the address; with --host (and --port, and
                       --tls implicit or starttls), use a server of your own; with --client-id, sign in through your
                       OAuth 2.0 client at Google or Microsoft in place of a password
  run [--foreground]   relay mail; with --foreground, log to stderr instead of syslog
  reload [--json]      make the running gateway apply the current settings; open connections are kept
  check [--json]       check the settings, and whether devices can connect
  show [--json]        print the effective settings, including defaults, with passwords masked
  status [--check] [--json] [--prometheus]
                       show the current state: listeners, accounts, queue, what a power cut would lose; the exit code is
                       1 if mail is not relayed or devices cannot connect; with --check, print one line, and use the
                       exit codes of monitoring plugins: 0 OK, 1 warning, 2 critical; with --prometheus, print
                       metrics in the text format of Prometheus
  queue [--device NAME] [--recipient ADDRESS] [--account NAME] [--older TIME] [--newer TIME] [--json]
                       list the queued messages and why they are waiting: of a device (address or section), for a
                       recipient (or its domain), of an account, that have waited longer or shorter than TIME (such as 2h)
  queue show ID [--body] [--json]
                       show one message: its header, all delivery attempts, and with --body its text
  queue retry ID|all [--json]
                       attempt delivery now
  queue hold ID|all [--json]
                       hold until released
  queue release ID|all [--json]
                       release held messages and attempt delivery now
  queue delete ID|all [--yes] [--json]
                       delete without sending a bounce; on a terminal, all is confirmed unless --yes is given
  providers [NAME] [--json]
                       list the known mail providers, or everything that is known about one
  services [--json]    list the push and chat services that a channel can use, and what each requires
  history [--json]     show the latest delivery results
  devices [--json]     list the devices that have sent mail or tried to
  wake [REASON] [--json]
                       external conditions have changed (uplink, clock): attempt all deliveries now
  test [ACCOUNT] RCPT [--verbose | -v] [--json]
                       send a test mail at once and show each step; with --verbose, show the SMTP transcript
  log [ID] [--follow | -f]
                       show the gateway's lines in the system log, or those of one message; with --follow, also new ones
  password ACCOUNT [--delete] [--json]
                       store the password of an account encrypted: prompt for it, or read one line from stdin
  login ACCOUNT        sign in to the provider, for an account with auth 'xoauth2'
  send [OPTIONS] [RECIPIENT...]
                       send the message on stdin, like sendmail:
                         -t       read the recipients from the header
                         -f ADDR  set the envelope sender
                         -F NAME  set the name in From, if the message has no From
                         -i, -oi  a single dot does not end the message
                         --json   print the message ID as JSON
  import FILE... [--root DIRECTORY] [--apply] [--show-secrets] [--password ACCOUNT]
                       print the uci commands that take over the settings of another relay, and what has no counterpart:
                       Postfix's main.cf, msmtprc, ssmtp.conf, /etc/config/emailrelay, dma.conf, nullmailer's remotes;
                       with --root, of a system mounted there; with --apply, write them; --password prints one password
                       for smtprelay password; needs the package smtprelay-import
  help [COMMAND]       print this help, or that of one command; the same as COMMAND --help
  version [--json]     print the version; the same as --version
Invoked as sendmail or msmtp it sends, as mailq or postqueue -p it lists the queue, as postqueue -f it retries all messages.
Signals: SIGHUP reloads the settings (only if the gateway can still read them: use reload), SIGTERM shuts down cleanly.
Exit codes: 0 success, 1 failure, 64 usage error, 65 wrong address or message, 66 no such message, 68 refused recipient, \
69 gateway not running or message refused, 75 temporary failure.
";

/// The commands with their lines. Nothing is copied: each start of the program looks its command up.
fn blocks() -> impl Iterator<Item = (&'static str, &'static str)> {
    let first = HELP.find("\n  ").map_or(HELP.len(), |end| end + 1);
    let mut rest = HELP.get(first..).unwrap_or_default();
    std::iter::from_fn(move || {
        let usage = rest.strip_prefix("  ")?;
        let mut ends = rest.match_indices('\n').map(|(place, _)| place + 1);
        let end = ends.find(|end| rest.get(*end..).is_none_or(|next| !next.starts_with("   ")))?;
        let (block, next) = rest.split_at_checked(end)?;
        rest = next;
        // What it does is set apart by two blanks.
        let words =
            usage.split(' ').take_while(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()));
        let length: usize = words.map(|word| word.len() + 1).sum();
        Some((usage.get(..length.saturating_sub(1))?, block))
    })
}

/// The names of all commands: `queue`, `queue show` …
pub fn names() -> Vec<&'static str> {
    blocks().map(|(name, _)| name).collect()
}

/// The help for a command, such as `queue` with all that begins so, or `queue show`. `None` if there is no such command.
pub fn of(command: &str) -> Option<String> {
    let is_meant = |name: &str| name == command || name.strip_prefix(command).is_some_and(|rest| rest.starts_with(' '));
    let lines: String = blocks().filter(|(name, _)| is_meant(name)).map(|(_, lines)| lines).collect();
    (!lines.is_empty()).then(|| format!("usage: smtprelay COMMAND [--config FILE | -c FILE]\n{lines}"))
}

/// Whether the help of exactly this command names `option`, such as `--json`.
pub fn allows(command: &str, option: &str) -> bool {
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    blocks().any(|(name, lines)| name == command && lines.split(option).skip(1).any(is_end))
}

/// `; did you mean 'X'?` if one of `known` is nearly `word`, otherwise nothing.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let lower = word.to_ascii_lowercase();
    let near = known.into_iter().map(|known| (distance(&lower, known), known));
    // Of a short word nearly everything is near.
    let near = near.filter(|(distance, known)| *distance <= 2 && *distance * 2 < known.len().max(2));
    near.min().map(|(_, known)| format!("; did you mean '{known}'?")).unwrap_or_default()
}

/// How many letters have to be added, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(40).collect(), b.chars().collect());
    let (mut before, mut row) = (Vec::new(), (0..=b.len()).collect::<Vec<usize>>());
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let at = |row: &[usize], place: usize| row.get(place).copied().unwrap_or(usize::MAX / 2);
            let mut least = at(&row, j) + usize::from(from != to);
            least = least.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(to) && b.get(j - 1) == Some(from);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_its_lines_and_options() {
        assert_eq!((names().first().copied(), names().last().copied()), (Some("setup"), Some("version")));
        assert_eq!(
            names().len(),
            HELP.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")).count()
        );
        assert_eq!(
            blocks().map(|(_, block)| block.lines().count()).sum::<usize>(),
            HELP.lines().filter(|l| l.starts_with("  ")).count()
        );
        assert!(names().contains(&"queue show") && names().contains(&"login"));
        let queue = of("queue").unwrap();
        assert!(queue.contains("\n  queue [--device") && queue.contains("\n  queue delete"), "{queue}");
        let one = of("queue hold").unwrap();
        assert_eq!(one.lines().count(), 3, "{one}");
        assert!(of("queu").is_none() && of("").is_none());
        for (command, option, allowed) in [
            ("queue show", "--body", true),
            ("queue", "--body", false),
            ("queue", "--json", true),
            ("run", "--json", false),
            ("status", "--check", true),
            ("check", "--check", false),
            ("send", "-t", true),
            ("send", "-o", false),
        ] {
            assert_eq!(allows(command, option), allowed, "{command} {option}");
        }
    }

    #[test]
    fn what_is_nearly_right_is_suggested() {
        let known = ["status", "queue", "history", "run"];
        for (word, meant) in [("stauts", "status"), ("Queue", "queue"), ("histroy", "history"), ("rum", "run")] {
            assert_eq!(suggestion(word, known), format!("; did you mean '{meant}'?"), "{word}");
        }
        for word in ["dance", "", "sta", "x"] {
            assert_eq!(suggestion(word, known), "", "{word}");
        }
    }
}
