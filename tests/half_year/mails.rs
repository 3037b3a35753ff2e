// SPDX-License-Identifier: Apache-2.0
//! What the devices of a small plant send.

use super::plan::Random;

/// Who reads the mail.
pub const OPS: &str = "ops@example.com";
pub const OFFICE: &str = "office@example.com";
/// A mailbox that is closed: its provider refuses it for good.
pub const GONE: &str = "gone@example.com";
/// A telephone that gets pushes.
pub const PHONE: &str = "phone@channel.invalid";

/// A kind of mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// A PLC: two lines.
    Alarm,
    /// An alarm that a telephone gets as well.
    Urgent,
    /// A camera: a picture of 40 to 200 KB.
    Picture,
    /// A scanner: 1 to 100 KB, to two recipients.
    Scan,
    /// A UPS: some lines.
    Ups,
    /// A UPS that still writes to someone who has left.
    UpsToGone,
    /// A sensor that sends five mails at once; its rate allows two, so the others come in a digest.
    Storm,
}

/// How many mails a [`Mail::Storm`] is.
pub const STORM: usize = 5;

/// Those of a day: 20 mails.
pub const DAILY: [Mail; 16] = [
    Mail::Alarm,
    Mail::Alarm,
    Mail::Alarm,
    Mail::Alarm,
    Mail::Alarm,
    Mail::Alarm,
    Mail::Urgent,
    Mail::Picture,
    Mail::Picture,
    Mail::Picture,
    Mail::Picture,
    Mail::Scan,
    Mail::Scan,
    Mail::Ups,
    Mail::UpsToGone,
    Mail::Storm,
];

impl Mail {
    /// The address in 127.0.0.0/8 that the device has.
    pub fn host(self) -> u8 {
        match self {
            Mail::Alarm | Mail::Urgent => 2,
            Mail::Picture => 3,
            Mail::Scan => 4,
            Mail::Ups | Mail::UpsToGone => 5,
            Mail::Storm => 6,
        }
    }

    pub fn sender(self) -> &'static str {
        match self {
            Mail::Alarm | Mail::Urgent => "plc@example.com",
            Mail::Picture => "camera@example.com",
            Mail::Scan => "scanner@example.com",
            Mail::Ups | Mail::UpsToGone => "ups@example.com",
            Mail::Storm => "sensor@example.com",
        }
    }

    pub fn recipients(self) -> &'static [&'static str] {
        match self {
            Mail::Urgent => &[OPS, PHONE],
            Mail::Scan => &[OPS, OFFICE],
            Mail::UpsToGone => &[OPS, GONE],
            _ => &[OPS],
        }
    }

    /// The message, with this name in its subject.
    pub fn text(self, name: &str, random: &mut Random) -> String {
        let sender = self.sender();
        let mut kilobytes = |from: u64, to: u64| usize::try_from(from + random.below(to - from)).expect("a small size");
        match self {
            // As its sketch does it: hardly a header.
            Mail::Alarm | Mail::Urgent | Mail::Storm => {
                format!("Subject: alarm {name}\r\n\r\nLevel 4.20 m\r\nPump 3\r\n")
            }
            Mail::Ups | Mail::UpsToGone => {
                let lines = "Battery 87 %, load 31 %, input 229.4 V\r\n".repeat(10);
                format!("From: {sender}\r\nTo: {OPS}\r\nSubject: UPS {name}\r\n\r\n{lines}")
            }
            Mail::Scan => {
                let lines = format!("{}\r\n", "lorem ipsum ".repeat(5)).repeat(16 * kilobytes(1, 100));
                format!("From: {sender}\r\nTo: {OPS}, {OFFICE}\r\nSubject: scan {name}\r\n\r\n{lines}")
            }
            Mail::Picture => {
                let line = format!("{}\r\n", "/9j/4AAQSkZJRgAB".repeat(4)).repeat(15 * kilobytes(40, 200));
                format!(
                    "From: {sender}\r\nTo: {OPS}\r\nSubject: motion {name}\r\nMIME-Version: 1.0\r\n\
                     Content-Type: multipart/mixed; boundary=cut\r\n\r\n--cut\r\nContent-Type: text/plain\r\n\r\nMotion\r\n\
                     --cut\r\nContent-Type: image/jpeg; name=\"motion.jpg\"\r\nContent-Transfer-Encoding: base64\r\n\
                     Content-Disposition: attachment; filename=\"motion.jpg\"\r\n\r\n{line}--cut--\r\n"
                )
            }
        }
    }
}
