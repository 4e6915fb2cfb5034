//! The MTA that a trial is played against: sm-mta or Postfix, whichever, with the same clients.

use std::net::IpAddr;
use std::path::Path;

use toml::Table;

use super::postfix::{self, Postfix};
use super::sendmail::{Options, Sendmail};
use super::smtp::Client;
use super::{Result, Rig};

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sendmail,
    Postfix,
}

impl Kind {
    /// The daemon's settings that go with it, below a trial's own.
    pub(crate) fn settings(self, parent: &Path) -> Result<Table> {
        match self {
            Kind::Sendmail => Ok(Table::new()),
            Kind::Postfix => postfix::settings(parent),
        }
    }

    /// Starts it in a folder of its own under `parent`. `main` are further lines of Postfix's main.cf.
    pub(crate) fn start(
        self,
        rig: &Rig,
        parent: &Path,
        tag: &str,
        options: &Options,
        main: &[String],
    ) -> Result<Mta> {
        match self {
            Kind::Sendmail => Sendmail::start(rig, parent, tag, options).map(Mta::Sendmail),
            Kind::Postfix => Postfix::start(rig, parent, tag, options, main).map(Mta::Postfix),
        }
    }
}

/// One that runs.
pub(crate) enum Mta {
    Sendmail(Sendmail),
    Postfix(Postfix),
}

impl Mta {
    /// A client at this address of the rig's.
    pub(crate) fn connect_from(&self, source: IpAddr) -> Result<Client> {
        match self {
            Mta::Sendmail(sendmail) => sendmail.connect_from(source),
            Mta::Postfix(postfix) => postfix.connect_from(source),
        }
    }

    /// A client of `sendmail -bs`.
    pub(crate) fn submit(&self) -> Result<Client> {
        match self {
            Mta::Sendmail(sendmail) => sendmail.submit(),
            Mta::Postfix(_) => Err("Postfix's sendmail -bs asks no milter".to_owned()),
        }
    }
}
