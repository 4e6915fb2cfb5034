//! The names of the macros that we ask for, and the reading of what comes.
//!
//! The only file that knows their names. Asked for at MAIL, for a client may STARTTLS and go on to MAIL
//! without a second EHLO, or send one message in the clear, STARTTLS, and send another: only what the MTA
//! tells with a MAIL is right for that message.

use crate::policy::facts::Told;
use std::ffi::CString;

/// What we ask for at MAIL. Well under the 50 names that sendmail takes.
const AT_MAIL: &[&str] = &[
    "i",
    "j",
    "{client_addr}",
    "{client_name}",
    "{client_resolve}",
    "v",
    "{tls_version}",
    "{cipher}",
    "{cipher_bits}",
    "{verify}",
    "{cn_subject}",
    "{cert_subject}",
    "{cert_issuer}",
    "{auth_type}",
    "{auth_authen}",
    "{auth_ssf}",
];

/// The list for the negotiation.
pub(super) fn requested() -> CString {
    // The names above have no NUL in them; an empty list would ask for nothing, and be seen as unknown.
    CString::new(AT_MAIL.join(" ")).unwrap_or_default()
}

/// Reads the payload of a macro definition (names and values by turns, each ended by a NUL). A name that we
/// do not know changes nothing; of a name that comes twice the first counts; what is cut off at the end is
/// left out.
pub fn told(payload: &[u8]) -> Told<'_> {
    let mut told = Told::default();
    let mut strings = payload.split_inclusive(|b| *b == 0).filter_map(|piece| piece.strip_suffix(b"\0"));
    while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
        let field = match name {
            b"i" | b"{i}" => &mut told.queue_id,
            b"j" | b"{j}" => &mut told.host,
            b"v" | b"{v}" => &mut told.mta,
            b"{client_addr}" => &mut told.peer_addr,
            b"{client_name}" => &mut told.peer_name,
            b"{client_resolve}" => &mut told.peer_resolve,
            b"{tls_version}" => &mut told.tls_version,
            b"{cipher}" => &mut told.cipher,
            b"{cipher_bits}" => &mut told.cipher_bits,
            b"{verify}" => &mut told.verify,
            b"{cn_subject}" => &mut told.cn_subject,
            b"{cert_subject}" => &mut told.cert_subject,
            b"{cert_issuer}" => &mut told.cert_issuer,
            b"{auth_type}" => &mut told.auth_type,
            b"{auth_authen}" => &mut told.auth_authen,
            b"{auth_ssf}" => &mut told.auth_ssf,
            _ => continue,
        };
        field.get_or_insert(value);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_asked_for_is_read() {
        for name in AT_MAIL {
            let payload = format!("{name}\0value\0");
            let debug = format!("{:?}", told(payload.as_bytes()));
            assert_eq!(debug.matches("Some").count(), 1, "{name}: {debug}");
        }
    }

    #[test]
    fn odd_payloads_are_read_as_far_as_they_go() {
        assert_eq!(told(b"").queue_id, None);
        assert_eq!(told(b"i\0A").queue_id, None);
        assert_eq!(told(b"i\0A\0{cipher}").queue_id, Some(b"A".as_slice()));
        assert_eq!(told(b"i\0A\0i\0B\0").queue_id, Some(b"A".as_slice()));
        assert_eq!(told(b"{i}\0A\0").queue_id, Some(b"A".as_slice()));
        assert_eq!(told(b"{unknown}\0x\0i\0A\0").queue_id, Some(b"A".as_slice()));
        assert_eq!(told(b"\0\0\0\0i\0A\0").queue_id, Some(b"A".as_slice()));
        assert_eq!(told(b"i\0\0").queue_id, Some(b"".as_slice()));
    }
}
