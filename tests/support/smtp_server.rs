//! SMTP servers of every manner: sound ones of a given strength, and such as hang, trickle, flood, close or lie.
//!
//! Promises: each listens on a port of its own, serves every connection in a thread of its own, and keeps what clients
//! said, line by line, without their line ends.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslStream, SslVersion};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: X509,
    pub(crate) key: PKey<Private>,
}

impl Identity {
    /// An authority's own.
    pub(crate) fn authority() -> Self {
        Self::issue("Test CA", &[], 30, None)
    }

    /// Signed by an authority, or by itself. Valid from yesterday, for so many days from now.
    pub(crate) fn issue(cn: &str, names: &[&str], days: i64, issuer: Option<&Self>) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("O", "Partner & Sons").unwrap();
        name.append_entry_by_text("CN", cn).unwrap();
        let name = name.build();
        let mut serial = BigNum::new().unwrap();
        serial.rand(100, MsbOption::MAYBE_ZERO, false).unwrap();
        let now = jiff::Timestamp::now().as_second();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(issuer.map_or(&*name, |issuer| issuer.certificate.subject_name())).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(now - 40 * 86_400).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(now + days * 86_400).unwrap()).unwrap();
        if names.is_empty() {
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        } else {
            let mut alternative = SubjectAlternativeName::new();
            for name in names {
                alternative.dns(name);
            }
            let alternative = alternative.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(alternative).unwrap();
        }
        builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// A server's side of TLS that can do everything; to be narrowed.
    pub(crate) fn server(&self) -> SslContextBuilder {
        let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
        context.set_security_level(0);
        context.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        context.set_max_proto_version(None).unwrap();
        context.set_cipher_list("ALL:!aNULL:eNULL:@SECLEVEL=0").unwrap();
        context.set_certificate(&self.certificate).unwrap();
        context.set_private_key(&self.key).unwrap();
        context
    }
}

/// One client's connection.
pub(crate) enum Way {
    Plain(TcpStream),
    Tls(SslStream<TcpStream>),
    Gone,
}

pub(crate) struct Connection {
    pub(crate) way: Way,
    /// Its number, from 0.
    pub(crate) number: usize,
    said: Arc<Mutex<Vec<String>>>,
}

impl Connection {
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        match &mut self.way {
            Way::Plain(stream) => stream.write_all(bytes).is_ok(),
            Way::Tls(stream) => stream.write_all(bytes).is_ok(),
            Way::Gone => false,
        }
    }

    /// The client's next line; nothing once it has gone.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            let read = match &mut self.way {
                Way::Plain(stream) => stream.read(&mut byte),
                Way::Tls(stream) => stream.read(&mut byte),
                Way::Gone => Ok(0),
            };
            match read {
                Ok(1) if byte == *b"\n" => break,
                Ok(1) => line.push(byte[0]),
                _ => return None,
            }
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        self.said.lock().unwrap().push(line.clone());
        Some(line)
    }

    /// Answers EHLO, STARTTLS and QUIT as a sound server does, until the client goes.
    pub(crate) fn serve(&mut self, context: Option<&SslContext>) {
        while let Some(line) = self.line() {
            let within = matches!(self.way, Way::Tls(_));
            let answered = match line.split(' ').next().unwrap_or_default() {
                "EHLO" if context.is_some() && !within => {
                    self.send(b"250-mx.partner.example greets you\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
                }
                "EHLO" => self.send(b"250-mx.partner.example greets you\r\n250 PIPELINING\r\n"),
                "STARTTLS" => {
                    self.send(b"220 2.0.0 Ready to start TLS\r\n")
                        && context.is_some_and(|context| self.handshake(context))
                }
                "MAIL" | "RSET" => self.send(b"250 2.0.0 OK\r\n"),
                "QUIT" => {
                    self.send(b"221 2.0.0 bye\r\n");
                    return;
                }
                _ => self.send(b"500 5.5.1 what?\r\n"),
            };
            if !answered {
                return;
            }
        }
    }

    pub(crate) fn handshake(&mut self, context: &SslContext) -> bool {
        let Way::Plain(stream) = std::mem::replace(&mut self.way, Way::Gone) else { return false };
        match Ssl::new(context).unwrap().accept(stream) {
            Ok(stream) => {
                self.way = Way::Tls(stream);
                true
            }
            Err(_) => false,
        }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves every connection so.
    pub(crate) fn start(behave: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let behave = Arc::new(behave);
        let keep = Arc::clone(&said);
        // Ends with the test's process: a listener that nobody closes hurts nobody there.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let (said, behave) = (Arc::clone(&keep), Arc::clone(&behave));
                std::thread::spawn(move || behave(&mut Connection { way: Way::Plain(stream), number, said }));
            }
        });
        Self { address, said }
    }

    /// A sound one with this side of TLS, or none.
    pub(crate) fn sound(context: Option<SslContextBuilder>) -> Self {
        let context = context.map(SslContextBuilder::build);
        Self::start(move |connection| {
            connection.send(b"220 mx.partner.example ESMTP\r\n");
            connection.serve(context.as_ref());
        })
    }

    /// What clients have said.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// As `probe` takes it.
    pub(crate) fn target(&self) -> String {
        format!("localhost:{}", self.address.port())
    }
}
