-- The evidence of encr-milter: how often what was decided. To be read with sqlite3 while the daemon runs:
--   SELECT * FROM by_domain;
--   SELECT * FROM evidence WHERE rule = 'partner' AND day >= '2026-11-01';
--
-- Times are seconds since 1970-01-01 00:00 UTC in the tables, so that the earlier and the later of two are
-- told at once, and text in the views, for who reads them. The tables know no NULL, for SQLite takes each NULL
-- as different from all others, and the same counts would not meet: text that is not known is empty everywhere,
-- and bits that are not known are -1 in the tables and NULL in the views. So are modes that were not in force:
-- empty in the tables, NULL in the views.

-- One row for each rule that was held, or one where none was. Sum `count` over decided = 1 for decisions.
CREATE TABLE decision_counts (
  day         TEXT    NOT NULL,  -- 2026-11-22, in UTC
  known_by    TEXT    NOT NULL,  -- how the policy knows the peer: host, mail, nothing
  domain      TEXT    NOT NULL,  -- the registrable part of its confirmed name; (others) beyond max-peers
  network     TEXT    NOT NULL,  -- its /24 or /48
  direction   TEXT    NOT NULL,  -- inbound, outbound
  side        TEXT    NOT NULL,  -- client, sender, recipient, server, recipient-outbound
  rule        TEXT    NOT NULL,
  key         TEXT    NOT NULL,  -- where there is no rule: why [exempt] settled it
  version     TEXT    NOT NULL,
  cipher      TEXT    NOT NULL,
  bits        INTEGER NOT NULL,  -- effective: max(cipher_bits, auth_ssf); 0 in the clear
  verify      TEXT    NOT NULL,
  verdict     TEXT    NOT NULL,  -- pass, fail, exempt, no-rule, unknown
  disposition TEXT    NOT NULL,  -- accept, tempfail, reject: what was done, whichever rule did it
  observe     TEXT    NOT NULL,  -- how that mode of this rule fared: pass, fail, unknown
  soft_fail   TEXT    NOT NULL,
  enforce     TEXT    NOT NULL,
  decided     INTEGER NOT NULL,  -- 1: the rule that decided, or the only row
  count       INTEGER NOT NULL,
  first       INTEGER NOT NULL,
  last        INTEGER NOT NULL,
  PRIMARY KEY (day, known_by, domain, network, direction, side, rule, key, version, cipher, bits, verify,
               verdict, disposition, observe, soft_fail, enforce, decided)
) STRICT, WITHOUT ROWID;

-- Hosts by month, for the dossier of a domain. None for whom [exempt] lets through.
CREATE TABLE host_counts (
  month     TEXT    NOT NULL,  -- 2026-11
  known_by  TEXT    NOT NULL,
  domain    TEXT    NOT NULL,
  host      TEXT    NOT NULL,  -- the confirmed name, or the address in brackets
  address   TEXT    NOT NULL,
  direction TEXT    NOT NULL,
  version   TEXT    NOT NULL,
  cipher    TEXT    NOT NULL,
  bits      INTEGER NOT NULL,
  verify    TEXT    NOT NULL,
  count     INTEGER NOT NULL,
  first     INTEGER NOT NULL,
  last      INTEGER NOT NULL,
  PRIMARY KEY (month, known_by, domain, host, address, direction, version, cipher, bits, verify)
) STRICT, WITHOUT ROWID;

-- Which modes of which rules were in force on a day, whether they met anybody or not.
CREATE TABLE standing (
  day         TEXT NOT NULL,
  rule        TEXT NOT NULL,
  mode        TEXT NOT NULL,
  requirement TEXT NOT NULL,
  PRIMARY KEY (rule, mode, day, requirement)
) STRICT, WITHOUT ROWID;

-- How many peers of a day (2026-11-22), and hosts of a month (2026-11), are kept apart from the (others).
CREATE TABLE bounds (
  period    TEXT    NOT NULL PRIMARY KEY,
  max_peers INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIEW evidence AS
SELECT day, direction, side, rule, key, domain, network, known_by, version, cipher, nullif(bits, -1) AS bits, verify,
       verdict, disposition, nullif(observe, '') AS observe, nullif(soft_fail, '') AS soft_fail,
       nullif(enforce, '') AS enforce, decided, count,
       strftime('%Y-%m-%dT%H:%M:%SZ', first, 'unixepoch') AS first,
       strftime('%Y-%m-%dT%H:%M:%SZ', last, 'unixepoch') AS last
FROM decision_counts;

CREATE VIEW hosts AS
SELECT month, direction, domain, host, address, known_by, version, cipher, nullif(bits, -1) AS bits, verify, count,
       strftime('%Y-%m-%dT%H:%M:%SZ', first, 'unixepoch') AS first,
       strftime('%Y-%m-%dT%H:%M:%SZ', last, 'unixepoch') AS last
FROM host_counts;

CREATE VIEW by_domain AS
SELECT direction, domain, sum(count) AS decisions, count(DISTINCT network) AS networks,
       sum(count) FILTER (WHERE bits = 0) AS in_the_clear,
       sum(count) FILTER (WHERE bits < 128) AS below_128,
       sum(count) FILTER (WHERE bits < 256) AS below_256,
       sum(count) FILTER (WHERE bits IS NULL) AS not_told,
       min(first) AS first, max(last) AS last
FROM evidence WHERE decided = 1
GROUP BY direction, domain ORDER BY decisions DESC;

CREATE VIEW by_rule AS
SELECT rule, side, sum(count) AS held, sum(count) FILTER (WHERE decided = 1) AS decided,
       sum(count) FILTER (WHERE verdict = 'exempt') AS exempt,
       sum(count) FILTER (WHERE observe = 'fail') AS observe_failed,
       sum(count) FILTER (WHERE soft_fail = 'fail') AS soft_fail_failed,
       sum(count) FILTER (WHERE enforce = 'fail') AS enforce_failed,
       min(first) AS first, max(last) AS last
FROM evidence WHERE rule <> ''
GROUP BY rule, side ORDER BY rule, side;

CREATE VIEW refused AS
SELECT day, direction, rule, key, domain, network, version, cipher, bits, verify, disposition, sum(count) AS count,
       min(first) AS first, max(last) AS last
FROM evidence WHERE decided = 1 AND disposition <> 'accept'
GROUP BY day, direction, rule, key, domain, network, version, cipher, bits, verify, disposition
ORDER BY day, rule, count DESC;
