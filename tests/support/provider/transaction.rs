// SPDX-License-Identifier: Apache-2.0
//! MAIL, RCPT and the text of a message.

use std::collections::BTreeSet;

use super::record::Message;
use super::script::Step;
use super::session::Session;
use super::wire::End;

/// A message that is on its way.
#[derive(Default)]
pub(super) struct Transaction {
    sender: String,
    params: Vec<String>,
    recipients: Vec<String>,
    refused: Vec<String>,
    /// What BDAT brought so far; none before the first BDAT.
    chunks: Option<Vec<u8>>,
}

impl Transaction {
    /// There were recipients, and none was taken.
    fn lost_all(&self) -> bool {
        self.recipients.is_empty() && !self.refused.is_empty()
    }

    fn has(&self, param: &str) -> bool {
        self.params.iter().any(|have| have.eq_ignore_ascii_case(param))
    }
}

impl Session {
    pub(super) async fn mail(&mut self, argument: &str) -> Result<(), End> {
        self.mail_refused = true; // until it is not
        if let Some(reply) = self.not_ready() {
            return self.say(reply).await;
        }
        if let Some((most, reply)) = self.settings.most.clone()
            && self.taken >= most
        {
            return self.say(&reply).await;
        }
        if self.transaction.is_some() {
            self.complain("MAIL inside of a transaction");
            return self.say("503 5.5.1 Nested MAIL").await;
        }
        let Some((sender, params)) = path(argument, "FROM:") else {
            self.complain(&format!("MAIL {argument}: not FROM:<address> (RFC 5321 section 4.1.1.2)"));
            return self.say("501 5.5.4 Syntax: MAIL FROM:<address>").await;
        };
        for param in &params {
            if !self.offers(param) {
                self.complain(&format!("MAIL with {param}, which is not offered"));
                return self.say("555 5.5.4 Unknown parameter").await;
            }
        }
        let transaction = Transaction { sender, params, ..Transaction::default() };
        if !transaction.sender.is_ascii() && !transaction.has("SMTPUTF8") {
            self.complain("MAIL with an address that is not ASCII, without SMTPUTF8 (RFC 6531 section 3.4)");
        }
        let declared = transaction.params.iter().find_map(|param| {
            param.get(..5).filter(|name| name.eq_ignore_ascii_case("SIZE=")).and(param[5..].parse::<u64>().ok())
        });
        let too_big = declared.zip(self.settings.size).is_some_and(|(size, limit)| size > limit);
        let plan = self.plan(Step::Mail, if too_big { TOO_BIG } else { "250 2.1.0 Ok" });
        if plan.takes_effect() {
            self.transaction = Some(transaction);
            self.mail_refused = false;
            self.taken += 1;
        }
        self.carry_out(plan).await
    }

    fn offers(&self, param: &str) -> bool {
        let settings = &self.settings;
        let (name, value) = param.split_once('=').unwrap_or((param, ""));
        match name.to_ascii_uppercase().as_str() {
            "BODY" => settings.eight_bit_mime && matches!(value.to_ascii_uppercase().as_str(), "7BIT" | "8BITMIME"),
            "SIZE" => settings.size.is_some() && value.parse::<u64>().is_ok(),
            "SMTPUTF8" => settings.smtputf8 && value.is_empty(),
            // RFC 4954 section 5: offered together with AUTH.
            "AUTH" => !settings.mechanisms.is_empty(),
            _ => false,
        }
    }

    pub(super) async fn rcpt(&mut self, argument: &str) -> Result<(), End> {
        let Some(transaction) = &self.transaction else {
            return self.no_transaction("RCPT").await;
        };
        let utf8 = transaction.has("SMTPUTF8");
        let Some((address, params)) = path(argument, "TO:").filter(|(address, _)| !address.is_empty()) else {
            self.complain(&format!("RCPT {argument}: not TO:<address> (RFC 5321 section 4.1.1.3)"));
            return self.say("501 5.5.4 Syntax: RCPT TO:<address>").await;
        };
        if let Some(param) = params.first() {
            self.complain(&format!("RCPT with {param}, which is not offered"));
            return self.say("555 5.5.4 Unknown parameter").await;
        }
        if !address.is_ascii() && !utf8 {
            self.complain("RCPT with an address that is not ASCII, without SMTPUTF8 (RFC 6531 section 3.4)");
        }
        let plan = self.plan(Step::Rcpt(address.clone()), "250 2.1.5 Ok");
        let effect = plan.takes_effect();
        if let Some(transaction) = &mut self.transaction {
            if effect { &mut transaction.recipients } else { &mut transaction.refused }.push(address);
        }
        self.carry_out(plan).await
    }

    /// RCPT and DATA may have been sent in one group with a MAIL that was refused (RFC 2920 section 3.1): that is no
    /// mistake of the client.
    async fn no_transaction(&mut self, verb: &str) -> Result<(), End> {
        if !self.mail_refused {
            self.complain(&format!("{verb} without MAIL"));
        }
        self.say("503 5.5.1 Say MAIL first").await
    }

    pub(super) async fn data(&mut self, argument: &str) -> Result<(), End> {
        if !argument.is_empty() {
            self.complain("DATA with a parameter");
        }
        if self.settings.asks_anyway && self.transaction.as_ref().map_or(self.mail_refused, Transaction::lost_all) {
            self.say("354 Go on").await?;
            if !self.text().await?.is_empty() {
                self.complain("a text that nobody gets");
            }
            self.transaction = None;
            return self.say("554 5.5.1 No valid recipients").await;
        }
        let Some(transaction) = &self.transaction else {
            return self.no_transaction("DATA").await;
        };
        if transaction.chunks.is_some() {
            self.complain("DATA behind BDAT (RFC 3030 section 2)");
            return self.say("503 5.5.1 BDAT was used").await;
        }
        if transaction.recipients.is_empty() {
            if transaction.refused.is_empty() {
                self.complain("DATA without RCPT");
            }
            return self.say("554 5.5.1 No valid recipients").await;
        }
        let plan = self.plan(Step::Data, "354 End data with <CR><LF>.<CR><LF>");
        let effect = plan.takes_effect();
        self.carry_out(plan).await?;
        if !effect {
            return Ok(());
        }
        let text = self.text().await?;
        self.complete("DATA", text).await
    }

    /// Reads lines up to the final dot and takes the stuffed dots away (RFC 5321 section 4.5.2).
    async fn text(&mut self) -> Result<Vec<u8>, End> {
        let mut text = Vec::new();
        self.text_begins().await?;
        loop {
            let line = self.wire.text_line().await?;
            if line == b".\r\n" {
                return Ok(text);
            }
            match line.strip_prefix(b".") {
                Some(rest) => {
                    if !rest.starts_with(b".") {
                        self.complain("a line of the text begins with a dot that is not doubled");
                    }
                    text.extend_from_slice(rest);
                }
                None => text.extend_from_slice(&line),
            }
        }
    }

    /// Something may go wrong when a text has begun to come.
    async fn text_begins(&mut self) -> Result<(), End> {
        let plan = self.plan(Step::Text, "");
        if plan.fault.is_some() {
            self.wire.has_begun().await?;
        }
        self.carry_out(plan).await
    }

    /// RFC 3030 section 2.
    pub(super) async fn bdat(&mut self, argument: &str) -> Result<(), End> {
        let (count, last) = match argument.split_once(' ') {
            Some((count, last)) if last.eq_ignore_ascii_case("LAST") => (count, true),
            _ => (argument, false),
        };
        let Ok(count) = count.parse::<usize>() else {
            // Nobody knows where the chunk ends.
            self.complain(&format!("BDAT {argument}: no chunk size"));
            self.say("501 5.5.4 Syntax: BDAT size [LAST]").await?;
            return Err(End::Closed);
        };
        let nobody = self.transaction.as_ref().is_none_or(|transaction| transaction.recipients.is_empty());
        if self.settings.reads_refused_chunks && nobody {
            return self.say("503 5.5.1 Valid RCPT command must precede BDAT").await;
        }
        self.text_begins().await?;
        let chunk = self.wire.exact(count).await?;
        self.note(&format!("*: chunk of {count} bytes"));
        if !self.settings.chunking {
            self.complain("BDAT though CHUNKING is not offered");
            return self.say("502 5.5.1 Not offered").await;
        }
        let Some(transaction) = &mut self.transaction else {
            return self.no_transaction("BDAT").await;
        };
        if transaction.recipients.is_empty() {
            let refused = !transaction.refused.is_empty();
            if !refused {
                self.complain("BDAT without RCPT");
            }
            return self.say("554 5.5.1 No valid recipients").await;
        }
        transaction.chunks.get_or_insert_default().extend_from_slice(&chunk);
        if last {
            let text = transaction.chunks.take().unwrap_or_default();
            return self.complete("BDAT", text).await;
        }
        let plan = self.plan(Step::Data, &format!("250 2.0.0 {count} bytes received"));
        if !plan.takes_effect() {
            self.transaction = None;
        }
        self.carry_out(plan).await
    }

    /// The text is complete: judges it, keeps it, replies.
    async fn complete(&mut self, command: &'static str, data: Vec<u8>) -> Result<(), End> {
        let Some(transaction) = self.transaction.take() else {
            return Ok(());
        };
        for objection in objections(&data, &transaction) {
            self.complain(objection);
        }
        let too_big = self.settings.size.is_some_and(|limit| u64::try_from(data.len()).is_ok_and(|size| size > limit));
        let number = self.shared.record.read(|record| record.attempts.len() + 1);
        let usual = format!("250 2.0.0 Ok: queued as {number}");
        let plan = self.plan(Step::Dot, if too_big { TOO_BIG } else { &usual });
        let accepted = plan.takes_effect();
        self.note(&format!("*: message of {} bytes, {}", data.len(), if accepted { "accepted" } else { "refused" }));
        let message = Message {
            connection: self.id(),
            accepted,
            sender: transaction.sender,
            mail_params: transaction.params,
            recipients: transaction.recipients,
            refused: transaction.refused,
            command,
            data,
            tls: self.tls.clone(),
            login: self.user.clone(),
        };
        self.connection(|connection| connection.messages += usize::from(accepted));
        self.shared.record.change(|record| record.attempts.push(message));
        if let Some((_, time)) = self.settings.slow.filter(|(nth, _)| self.id().is_multiple_of(*nth)) {
            tokio::time::sleep(time).await;
        }
        self.carry_out(plan).await
    }
}

const TOO_BIG: &str = "552 5.3.4 Message too big";

/// What is wrong with a text, each thing once.
fn objections(data: &[u8], transaction: &Transaction) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    if !data.is_empty() && !data.ends_with(b"\r\n") {
        found.insert("the text does not end with CRLF");
    }
    let mut in_header = true;
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        // RFC 5321 section 4.5.3.1.6: 1000 bytes with CRLF.
        if line.len() > 1000 {
            found.insert("the text has a line over 1000 bytes");
        }
        let content = line.strip_suffix(b"\r\n").unwrap_or_else(|| {
            if line.ends_with(b"\n") {
                found.insert("the text has a lone LF (RFC 5321 section 2.3.8)");
            }
            line
        });
        if content.contains(&b'\r') {
            found.insert("the text has a lone CR (RFC 5321 section 2.3.8)");
        }
        if content.contains(&0) {
            found.insert("the text has NUL (RFC 5321 section 4.5.2)");
        }
        if content.is_empty() {
            in_header = false;
        }
        if !content.is_ascii() {
            if in_header && !transaction.has("SMTPUTF8") {
                found.insert("the header is not ASCII, without SMTPUTF8 (RFC 6531 section 3.1)");
            }
            if !in_header && !transaction.has("BODY=8BITMIME") {
                found.insert("the body is not ASCII, without BODY=8BITMIME (RFC 6152 section 2)");
            }
        }
    }
    found
}

/// Splits `FROM:<address> PARAM …` strictly: no blank behind the colon, brackets, no source route.
fn path(argument: &str, keyword: &str) -> Option<(String, Vec<String>)> {
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    let rest = rest.strip_prefix('<').filter(|_| head.eq_ignore_ascii_case(keyword))?;
    // A quoted local part may hold > (RFC 5321 section 4.1.2).
    let mut quoted = false;
    let mut escaped = false;
    let end = rest.find(|letter| {
        let ends = letter == '>' && !quoted;
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        ends
    })?;
    let (address, behind) = (&rest[..end], &rest[end + 1..]);
    if address.starts_with('@') || address.contains(['<', '\t']) || (address.contains(' ') && !address.contains('"')) {
        return None;
    }
    let params = match behind.strip_prefix(' ') {
        Some(params) => params.split(' ').map(str::to_owned).collect(),
        None if behind.is_empty() => Vec::new(),
        None => return None,
    };
    if params.iter().any(String::is_empty) {
        return None;
    }
    Some((address.to_owned(), params))
}
