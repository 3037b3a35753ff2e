//! Commands out, replies in: the one place where replies are read, so that all of them are read alike.

use std::time::Duration;

use mail_send::Error;
use smtp_proto::EhloResponse;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::reply::{Lines, Reply};
use super::wire::Wire;

/// The client's end of a conversation.
pub struct Client {
    /// What carries it.
    pub stream: Wire,
    /// How long the server may take for a reply, unless somebody says otherwise.
    pub timeout: Duration,
}

impl Client {
    /// Reads the next reply, whatever it answers.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::UnparseableReply`] for what is no reply and for a connection that was closed, else
    /// [`Error::Io`].
    pub async fn read(&mut self, limit: Duration) -> Result<Reply, Error> {
        let lines = timeout(limit, self.lines()).await.map_err(|_| Error::Timeout)??;
        Ok(lines.reply().masked(&self.stream.mask))
    }

    /// Sends a command and reads the reply to it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn ask(&mut self, command: &[u8]) -> Result<Reply, Error> {
        Ok(self.exchange(command).await?.reply().masked(&self.stream.mask))
    }

    /// EHLO: the reply, and what the server offers if it says so.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn hello(&mut self, name: &str) -> Result<(Reply, Option<EhloResponse<String>>), Error> {
        let lines = self.exchange(format!("EHLO {name}\r\n").as_bytes()).await?;
        let offers = EhloResponse::parse(&mut lines.regular().as_bytes().iter()).ok();
        Ok((lines.reply().masked(&self.stream.mask), offers))
    }

    /// QUIT (RFC 5321 section 4.1.1.10); what the server says to it is of no interest.
    pub async fn quit(&mut self) {
        let _ = self.exchange(b"QUIT\r\n").await;
    }

    async fn exchange(&mut self, command: &[u8]) -> Result<Lines, Error> {
        let exchanged = timeout(self.timeout, async {
            self.stream.write_all(command).await?;
            self.stream.flush().await?;
            self.lines().await
        });
        exchanged.await.map_err(|_| Error::Timeout)?
    }

    async fn lines(&mut self) -> Result<Lines, Error> {
        let mut lines = Lines::default();
        let mut bytes = 0;
        loop {
            let line = self.stream.line(&mut bytes).await?.ok_or(Error::UnparseableReply)?;
            match lines.add(&line) {
                Ok(true) => return Ok(lines),
                Ok(false) => {}
                Err(_) => return Err(Error::UnparseableReply),
            }
        }
    }
}
