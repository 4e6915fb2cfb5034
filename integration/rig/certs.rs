//! The rig's certificates: one CA that sm-mta trusts, servers' and clients' of every kind.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509, X509Name};

use super::Result;

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) cert: X509,
    pub(crate) key: PKey<Private>,
}

/// Servers' identities, by the names of their files.
type Servers = Vec<(&'static str, Identity)>;

pub(crate) struct Certs {
    /// Where sm-mta finds `ca.pem`, and `server`, `self-signed` and `long` with `.pem` and `.key` after them.
    pub(crate) folder: PathBuf,
    signed: Identity,
    self_signed: Identity,
}

impl Certs {
    pub(crate) fn make(folder: &Path) -> Result<Certs> {
        let (ca, servers, certs) = Certs::issue(folder).map_err(|e| format!("making certificates: {e}"))?;
        let write = |name: &str, pem: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, pem).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600)))
        };
        let pem = |e: ErrorStack| format!("encoding certificates: {e}");
        let failed = |e: io::Error| format!("{}: {e}", folder.display());
        fs::create_dir_all(folder).map_err(failed)?;
        write("ca.pem", &ca.to_pem().map_err(pem)?).map_err(failed)?;
        for (name, identity) in servers {
            let (cert, key) = (identity.cert.to_pem(), identity.key.private_key_to_pem_pkcs8());
            write(&format!("{name}.pem"), &cert.map_err(pem)?).map_err(failed)?;
            write(&format!("{name}.key"), &key.map_err(pem)?).map_err(failed)?;
        }
        Ok(certs)
    }

    fn issue(folder: &Path) -> Result<(X509, Servers, Certs), ErrorStack> {
        let ca_key = elliptic()?;
        let ca_name = name(&[("O", "Rig Trust"), ("CN", "Rig CA")])?;
        let ca = certificate(&ca_name, &ca_key, &ca_name, &ca_key, true)?;
        let by_ca = |subject: &X509Name, key: PKey<Private>| {
            let cert = certificate(subject, &key, &ca_name, &ca_key, false)?;
            Ok::<Identity, ErrorStack>(Identity { cert, key })
        };
        // RSA, for the old ciphers without forward secrecy need it.
        let server = by_ca(&name(&[("CN", "mail.rig.example")])?, PKey::from_rsa(Rsa::generate(2048)?)?)?;
        let signed = by_ca(&name(&[("O", "Partner"), ("CN", "mx.partner.example")])?, elliptic()?)?;
        let own_key = elliptic()?;
        let own_name = name(&[("CN", "mx.partner.example")])?;
        let own = certificate(&own_name, &own_key, &own_name, &own_key, false)?;
        let self_signed = Identity { cert: own, key: own_key };
        let alone_key = elliptic()?;
        let alone_name = name(&[("CN", "self-signed.peer.example")])?;
        let alone = certificate(&alone_name, &alone_key, &alone_name, &alone_key, false)?;
        let alone = Identity { cert: alone, key: alone_key };
        // As long as sendmail takes a name; and every blank of it is three bytes in xtext.
        let unit = "a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6";
        let units = [("O", "Long & Sons (Oslo)"), ("OU", unit), ("OU", unit), ("OU", unit)];
        let long = by_ca(&name(&[&units[..], &[("CN", "long.peer.example")]].concat())?, elliptic()?)?;
        let servers = vec![("server", server), ("self-signed", alone), ("long", long)];
        Ok((ca, servers, Certs { folder: folder.to_owned(), signed, self_signed }))
    }

    /// A client's identity by the name that cases use.
    pub(crate) fn client(&self, kind: &str) -> Result<&Identity> {
        match kind {
            "signed" => Ok(&self.signed),
            "self-signed" => Ok(&self.self_signed),
            other => Err(format!("no client certificate {other:?}: there are signed and self-signed")),
        }
    }
}

fn elliptic() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_ec_key(EcKey::generate(EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?.as_ref())?)
}

fn name(parts: &[(&str, &str)]) -> Result<X509Name, ErrorStack> {
    let mut name = X509Name::builder()?;
    for (field, value) in parts {
        name.append_entry_by_text(field, value)?;
    }
    Ok(name.build())
}

fn certificate(
    subject: &X509Name,
    key: &PKey<Private>,
    issuer: &X509Name,
    issuer_key: &PKey<Private>,
    is_ca: bool,
) -> Result<X509, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(120, MsbOption::MAYBE_ZERO, false)?;
    let mut cert = X509::builder()?;
    cert.set_version(2)?;
    cert.set_serial_number(serial.to_asn1_integer()?.as_ref())?;
    cert.set_subject_name(subject)?;
    cert.set_issuer_name(issuer)?;
    cert.set_pubkey(key)?;
    cert.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    cert.set_not_after(Asn1Time::days_from_now(2)?.as_ref())?;
    if is_ca {
        cert.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    }
    cert.sign(issuer_key, MessageDigest::sha256())?;
    Ok(cert.build())
}
