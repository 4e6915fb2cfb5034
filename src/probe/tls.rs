//! TLS as an SMTP client's library sees it: what is offered, what was negotiated, whose certificate came.
//!
//! Strength is counted as sendmail counts it: `{cipher_bits}` are the secret bits of the cipher, `{alg_bits}` those of
//! its algorithm. Promises: a certificate that does not verify ends no handshake, and why it does not is told.

use super::fault::Fault;
use super::smtp::shown;
use crate::policy::requirement::encode_xtext;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslRef, SslVerifyMode, SslVersion};
use openssl::x509::verify::X509CheckFlags;
use openssl::x509::{X509NameRef, X509Ref};
use serde::Serialize;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH: of the name, not of the chain.
const MISMATCHES: [i32; 2] = [62, 64];

/// What we offer in a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// What this machine's OpenSSL offers by itself: what a sendmail without settings of its own does.
    Usual,
    /// All that this OpenSSL can still do.
    Everything,
    /// One protocol version, with all its ciphers.
    Version(SslVersion),
    /// Ciphers of this strength only.
    Strength(Strength),
}

/// Ciphers by their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// No encryption at all.
    Null,
    /// 1 to 127: 3DES and older.
    Low,
    /// 128: AES-128 and its like.
    Bits128,
    /// 256: AES-256, ChaCha20.
    Bits256,
}

impl Strength {
    /// The weakest first.
    pub const ALL: [Self; 4] = [Self::Null, Self::Low, Self::Bits128, Self::Bits256];

    /// What it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "0 bits (no encryption)",
            Self::Low => "1 to 127 bits (3DES and older)",
            Self::Bits128 => "128 bits (AES-128)",
            Self::Bits256 => "256 bits (AES-256, ChaCha20)",
        }
    }

    /// Whether a cipher of so many bits is of it.
    pub fn has(self, bits: u16) -> bool {
        match self {
            Self::Null => bits == 0,
            Self::Low => (1..128).contains(&bits),
            Self::Bits128 => (128..256).contains(&bits),
            Self::Bits256 => bits >= 256,
        }
    }

    /// Ciphers up to TLSv1.2, as OpenSSL's cipher list, and suites of TLSv1.3; that has none below 128 bits.
    fn ciphers(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Null => ("eNULL", None),
            Self::Low => ("3DES:DES:LOW:EXP:RC2", None),
            Self::Bits128 => (
                "AES128:CAMELLIA128:ARIA128:SEED:IDEA:RC4",
                Some("TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256"),
            ),
            Self::Bits256 => (
                "AES256:CHACHA20:CAMELLIA256:ARIA256",
                Some("TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"),
            ),
        }
    }
}

/// The versions to try, oldest first, by the names that an MTA tells.
pub const VERSIONS: [(&str, SslVersion); 4] = [
    ("TLSv1", SslVersion::TLS1),
    ("TLSv1.1", SslVersion::TLS1_1),
    ("TLSv1.2", SslVersion::TLS1_2),
    ("TLSv1.3", SslVersion::TLS1_3),
];

/// What is wrong with the chain or the name of a certificate, as the library found it.
#[derive(Clone, Debug, Default)]
pub struct Objections(Arc<Mutex<Vec<(i32, String)>>>);

impl Objections {
    fn add(&self, code: i32, words: String) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !list.iter().any(|(_, other)| *other == words) {
            list.push((code, words));
        }
    }

    fn list(&self, of_name: bool) -> Vec<String> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = list.iter().filter(|(code, _)| MISMATCHES.contains(code) == of_name);
        wanted.map(|(_, words)| words.clone()).collect()
    }
}

/// A client's side of a handshake; nothing where this OpenSSL has no cipher of that strength.
pub fn client(
    offer: Offer,
    host: &str,
    ca: Option<&Path>,
    objections: &Objections,
) -> Result<Option<Ssl>, Fault> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    if offer != Offer::Usual {
        // Level 0 lets old versions and weak ciphers be; they are only looked for.
        context.set_security_level(0);
        context.set_min_proto_version(Some(SslVersion::TLS1))?;
        context.set_max_proto_version(None)?;
    }
    match offer {
        Offer::Usual => {}
        Offer::Everything => context.set_cipher_list("ALL:COMPLEMENTOFALL:@SECLEVEL=0")?,
        Offer::Version(version) => {
            context.set_cipher_list("ALL:@SECLEVEL=0")?;
            context.set_min_proto_version(Some(version))?;
            context.set_max_proto_version(Some(version))?;
        }
        Offer::Strength(strength) => {
            let (list, suites) = strength.ciphers();
            if context.set_cipher_list(&format!("{list}:@SECLEVEL=0")).is_err() {
                return Ok(None);
            }
            match suites {
                Some(suites) => context.set_ciphersuites(suites)?,
                None => context.set_max_proto_version(Some(SslVersion::TLS1_2))?,
            }
        }
    }
    trust(&mut context, ca)?;
    let mut ssl = Ssl::new(&context.build())?;
    let param = ssl.param_mut();
    param.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
    match host.parse::<IpAddr>() {
        Ok(address) => param.set_ip(address)?,
        Err(_) => {
            param.set_host(host)?;
            ssl.set_hostname(host)?;
        }
    }
    let objections = objections.clone();
    ssl.set_verify_callback(SslVerifyMode::PEER, move |good, store| {
        if !good {
            let error = store.error();
            objections.add(error.as_raw(), error.error_string().to_owned());
        }
        true
    });
    Ok(Some(ssl))
}

fn trust(context: &mut SslContextBuilder, ca: Option<&Path>) -> Result<(), ErrorStack> {
    match ca {
        Some(file) => context.set_ca_file(file),
        None => context.set_default_verify_paths(),
    }
}

/// What was negotiated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// `TLSv1.3`
    pub tls_version: String,
    /// OpenSSL's name of the suite.
    pub cipher: String,
    /// `{cipher_bits}`
    pub cipher_bits: u16,
    /// `{alg_bits}`
    pub alg_bits: u16,
    /// The ephemeral key of the exchange, `X25519, 253 bits`; nothing where there is none to be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_exchange: Option<String>,
    /// Whether it took more than this machine's usual offer.
    pub only_with_weak_settings: bool,
}

/// What is known of a session.
pub fn session(ssl: &SslRef, offer: Offer) -> Option<Session> {
    let cipher = ssl.current_cipher()?;
    let bits = cipher.bits();
    let key = ssl.peer_tmp_key().ok();
    let bits_of = |bits: i32| u16::try_from(bits).unwrap_or_default();
    Some(Session {
        tls_version: ssl.version_str().to_owned(),
        cipher: cipher.name().to_owned(),
        cipher_bits: bits_of(bits.secret),
        alg_bits: bits_of(bits.algorithm),
        key_exchange: key.map(|key| {
            let curve = key.ec_key().ok().and_then(|key| key.group().curve_name()?.short_name().ok());
            let name = curve.map_or_else(|| name_of(key.id()), str::to_owned);
            format!("{name}, {} bits", key.bits())
        }),
        only_with_weak_settings: offer != Offer::Usual,
    })
}

fn name_of(id: Id) -> String {
    match id {
        Id::X25519 => "X25519".to_owned(),
        Id::X448 => "X448".to_owned(),
        Id::DH => "DH".to_owned(),
        Id::EC => "EC".to_owned(),
        Id::RSA => "RSA".to_owned(),
        other => Nid::from_raw(other.as_raw()).short_name().unwrap_or("key").to_owned(),
    }
}

/// The server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// As sendmail's `{cert_subject}`.
    pub subject: String,
    /// As sendmail's `{cert_issuer}`.
    pub issuer: String,
    /// As sendmail's `{cn_subject}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cn: Option<String>,
    /// The names that it is for (subjectAltName).
    pub names: Vec<String>,
    /// `RSA, 2048 bits`
    pub key: String,
    /// Valid from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<jiff::Timestamp>,
    /// Valid until.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<jiff::Timestamp>,
    /// Whether it is for the name that was asked for.
    pub name_matches: bool,
    /// Why it does not verify, the name left out.
    pub objections: Vec<String>,
}

/// What `{verify}` would say. sendmail does not hold the name against the certificate there.
pub fn verify(certificate: Option<&Certificate>) -> &'static str {
    match certificate {
        None => "NO",
        Some(certificate) if certificate.objections.is_empty() => "OK",
        Some(_) => "FAIL",
    }
}

/// What is known of the certificate that came.
pub fn certificate(ssl: &SslRef, objections: &Objections) -> Option<Certificate> {
    let peer = ssl.peer_certificate()?;
    Some(Certificate {
        subject: one_line(peer.subject_name()),
        issuer: one_line(peer.issuer_name()),
        cn: peer
            .subject_name()
            .entries_by_nid(Nid::COMMONNAME)
            .last()
            .map(|entry| encode_xtext(&shown(entry.data().as_slice()))),
        names: names(&peer),
        key: peer.public_key().map_or_else(
            |_| "unknown".to_owned(),
            |key| format!("{}, {} bits", name_of(key.id()), key.bits()),
        ),
        not_before: timestamp(peer.not_before()),
        not_after: timestamp(peer.not_after()),
        name_matches: objections.list(true).is_empty(),
        objections: objections.list(false),
    })
}

/// A distinguished name as sendmail tells it: `/C=NO/O=Partner/CN=mx.partner.example`, in xtext.
fn one_line(name: &X509NameRef) -> String {
    let parts = name.entries().map(|entry| {
        let field = entry.object().nid().short_name().unwrap_or("?");
        format!("/{field}={}", shown(entry.data().as_slice()))
    });
    encode_xtext(&parts.collect::<String>())
}

fn names(certificate: &X509Ref) -> Vec<String> {
    let alternatives = certificate.subject_alt_names();
    let names = alternatives.iter().flatten().filter_map(|name| {
        let address = name.ipaddress().and_then(|bytes| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        });
        name.dnsname().map(|name| shown(name.as_bytes())).or_else(|| address.map(|ip| ip.to_string()))
    });
    names.collect()
}

fn timestamp(time: &Asn1TimeRef) -> Option<jiff::Timestamp> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    jiff::Timestamp::from_second(i64::from(since.days) * 86_400 + i64::from(since.secs)).ok()
}
