//! What did the hosts of a domain negotiate with us, and who else brought or took its mail?

use super::{Period, each, session, time};
use crate::evidence::rollup::{OTHERS, Session};
use crate::evidence::store::{Store, StoreError};
use crate::policy::domain::registrable;
use rusqlite::params;

/// A host, and one kind of session that it had.
#[derive(Clone, Debug)]
pub struct HostSeen {
    /// Its confirmed name, or its address in brackets.
    pub host: String,
    /// Its address.
    pub address: String,
    /// What was negotiated.
    pub session: Session,
    /// Messages.
    pub messages: u64,
    /// The first one.
    pub first: jiff::Timestamp,
    /// The last one.
    pub last: jiff::Timestamp,
}

/// Hosts of a domain and its subdomains. They are counted by month, so that of a period their months are told.
pub fn hosts_of(store: &Store, domain: &str, period: Period) -> Result<Vec<HostSeen>, StoreError> {
    const QUESTION: &str = "SELECT direction, version, cipher, bits, verify, host, address, sum(count), min(first), max(last) \
        FROM host_counts WHERE domain = ?1 AND (host = ?2 OR substr(host, -length(?3)) = ?3) \
        AND last >= ?4 AND first < ?5 \
        GROUP BY direction, host, address, version, cipher, bits, verify \
        ORDER BY direction, host, address, max(last) DESC, version, cipher, bits, verify";
    let [since, until] = period.seconds();
    let mut hosts = Vec::new();
    let parameters = params![registrable(domain), domain, format!(".{domain}"), since, until];
    each(store, QUESTION, parameters, |row| {
        hosts.push(HostSeen {
            session: session(row, 0)?,
            host: row.get(5)?,
            address: row.get(6)?,
            messages: row.get(7)?,
            first: time(row.get(8)?),
            last: time(row.get(9)?),
        });
        Ok(())
    })?;
    Ok(hosts)
}

/// Whether more hosts were met than are kept apart, so that any domain may have had some that nobody can name.
pub fn has_others(store: &Store, period: Period) -> Result<bool, StoreError> {
    const QUESTION: &str =
        "SELECT 1 FROM host_counts WHERE domain = ?1 AND last >= ?2 AND first < ?3 LIMIT 1";
    let [since, until] = period.seconds();
    let mut found = false;
    each(store, QUESTION, params![OTHERS, since, until], |_| {
        found = true;
        Ok(())
    })?;
    Ok(found)
}

/// Mail from or to addresses of a domain, by hosts of other names: a provider's, say.
#[derive(Clone, Debug)]
pub struct ElsewhereSeen {
    /// The rule's key: the domain, one below it, or an address there.
    pub key: String,
    /// The registrable part of the host's confirmed name; empty where it has none.
    pub peer_domain: String,
    /// Its network.
    pub network: String,
    /// What was negotiated.
    pub session: Session,
    /// Messages.
    pub messages: u64,
    /// The last one.
    pub last: jiff::Timestamp,
}

/// Who else brought mail of the domain, or took mail to it? It is known where a rule has a key for its addresses.
pub fn elsewhere(store: &Store, domain: &str, period: Period) -> Result<Vec<ElsewhereSeen>, StoreError> {
    const QUESTION: &str = "SELECT direction, version, cipher, bits, verify, key, domain, network, sum(count), max(last) \
        FROM decision_counts WHERE side IN ('sender', 'recipient-outbound') \
        AND (key = ?1 OR substr(key, -length(?2)) = ?2 OR substr(key, -length(?3)) = ?3) \
        AND domain <> ?4 AND day BETWEEN ?5 AND ?6 \
        GROUP BY direction, key, domain, network, version, cipher, bits, verify \
        ORDER BY direction, sum(count) DESC, key, domain, network, version, cipher, bits, verify";
    let [since, until] = period.days();
    let mut found = Vec::new();
    let parameters =
        params![domain, format!(".{domain}"), format!("@{domain}"), registrable(domain), since, until];
    each(store, QUESTION, parameters, |row| {
        found.push(ElsewhereSeen {
            session: session(row, 0)?,
            key: row.get(5)?,
            peer_domain: row.get(6)?,
            network: row.get(7)?,
            messages: row.get(8)?,
            last: time(row.get(9)?),
        });
        Ok(())
    })?;
    Ok(found)
}
