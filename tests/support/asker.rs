//! sendmail's side of the socket map: asks as `config/sendmail-outbound.mc` does.
//!
//! Promises: an answer is waited for with a deadline.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// One connection of a delivering process.
pub(crate) struct Asker(UnixStream);

/// What is told of a connection to a server; the fields of the key in their order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) queue_id: &'a str,
    pub(crate) server_name: &'a str,
    pub(crate) server_addr: &'a str,
    pub(crate) verify: &'a str,
    pub(crate) tls_version: &'a str,
    pub(crate) bits: &'a str,
    pub(crate) cn: &'a str,
    /// Issuer and subject.
    pub(crate) names: Option<(&'a str, &'a str)>,
}

/// A server of partner.example with 128 bits.
pub(crate) const PARTNER: Delivery<'static> = Delivery {
    queue_id: "4AMB1",
    server_name: "mx.partner.example",
    server_addr: "192.0.2.7",
    verify: "FAIL",
    tls_version: "TLSv1.2",
    bits: "128",
    cn: "mx",
    names: None,
};

/// The same without STARTTLS.
pub(crate) const IN_THE_CLEAR: Delivery<'static> =
    Delivery { verify: "NONE", tls_version: "", bits: "", cn: "", ..PARTNER };

impl Delivery<'_> {
    /// The question about the connection, or about a recipient, as a netstring.
    pub(crate) fn question(&self, recipient: Option<&str>) -> Vec<u8> {
        let cipher = if self.tls_version.is_empty() { "" } else { "CIPHER" };
        let kind = if recipient.is_some() { "rcpt" } else { "server" };
        let mut fields = vec![
            kind,
            "mail.example.org",
            self.queue_id,
            self.server_name,
            self.server_addr,
            self.verify,
            self.tls_version,
            cipher,
            self.bits,
            "",
            self.cn,
            recipient.unwrap_or_default(),
        ];
        if let Some((issuer, subject)) = self.names {
            fields.extend([issuer, subject]);
        }
        fields.push("end");
        let fields: Vec<&[u8]> = fields.iter().map(|field| field.as_bytes()).collect();
        netstring(&[b"encr_milter ".as_slice(), &fields.join(&0x9b)].concat())
    }
}

pub(crate) fn netstring(content: &[u8]) -> Vec<u8> {
    [format!("{}:", content.len()).as_bytes(), content, b","].concat()
}

impl Asker {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The next answer; nothing where the connection has ended.
    pub(crate) fn answer(&mut self) -> Option<String> {
        let mut length = 0;
        loop {
            let mut byte = [0];
            match self.0.read(&mut byte).ok()? {
                0 => return None,
                _ if byte[0] == b':' => break,
                _ => length = length * 10 + usize::from(byte[0] - b'0'),
            }
        }
        let mut content = vec![0; length + 1];
        self.0.read_exact(&mut content).unwrap();
        assert_eq!(content.pop(), Some(b','));
        Some(String::from_utf8(content).unwrap())
    }

    /// Asks on a connection that may be turned away.
    pub(crate) fn try_ask(&mut self, delivery: &Delivery<'_>) -> Option<String> {
        // It may be closed before the question is out.
        let _ = self.0.write_all(&delivery.question(None));
        self.answer()
    }

    pub(crate) fn ask(&mut self, delivery: &Delivery<'_>, recipient: Option<&str>) -> String {
        self.send(&delivery.question(recipient));
        self.answer().expect("the connection has ended")
    }
}
