//! What we ask of the MTA when it connects: MAIL and RCPT, our macros at MAIL, and nothing else.
//!
//! RCPT is asked for even where today's policy has nothing to say there, for tomorrow's may, and is to be in
//! force in connections that are open. It costs nothing: `accept` at MAIL ends the milter's part in that
//! message, and no RCPT is sent.

use super::macros;
use bytes::{BufMut, Bytes, BytesMut};
use indymilter::message::command::OptNegPayload;
use indymilter::message::reply::{Reply, ReplyKind};
use indymilter::message::{Message, PROTOCOL_VERSION};
use indymilter::{Actions, MacroStage, ProtoOpts};
use std::ffi::CString;
use std::sync::LazyLock;

/// An MTA of a version before this has no way to leave stages out.
const OLDEST_VERSION: u32 = 2;

/// The MTA's version is too old.
#[derive(Debug, thiserror::Error)]
#[error("the MTA speaks version {0} of the milter protocol; {OLDEST_VERSION} is the least")]
pub(super) struct TooOld(u32);

/// Every stage that we can do without.
fn unneeded() -> ProtoOpts {
    ProtoOpts::NO_CONNECT
        | ProtoOpts::NO_HELO
        | ProtoOpts::NO_DATA
        | ProtoOpts::NO_HEADER
        | ProtoOpts::NO_EOH
        | ProtoOpts::NO_BODY
        | ProtoOpts::NO_UNKNOWN
}

/// Version, actions and options of a negotiation: three numbers of four bytes, before the lists of macros.
const NUMBERS: usize = 12;

/// Our list at MAIL, as it is sent; the other stages are silenced by an empty one. The same for every connection.
static MACRO_LISTS: LazyLock<Bytes> = LazyLock::new(|| {
    let macros = MacroStage::all()
        .map(|stage| {
            let list = if stage == MacroStage::Mail { macros::requested() } else { CString::default() };
            (stage, list)
        })
        .collect();
    let reply = Reply::OptNeg {
        version: PROTOCOL_VERSION,
        actions: Actions::empty(),
        opts: ProtoOpts::empty(),
        macros,
    };
    let mut payload = reply.into_message().buffer;
    payload.split_off(NUMBERS.min(payload.len()))
});

/// Answers the MTA's offer.
pub(super) fn answer(offer: &OptNegPayload) -> Result<Message, TooOld> {
    if offer.version < OLDEST_VERSION {
        return Err(TooOld(offer.version));
    }
    let mut payload = BytesMut::with_capacity(NUMBERS + MACRO_LISTS.len());
    payload.put_u32(offer.version.min(PROTOCOL_VERSION));
    payload.put_u32(Actions::empty().bits());
    payload.put_u32((unneeded() & offer.opts).bits());
    // An MTA that cannot be asked for macros sends its own lists; what they lack is seen as not told.
    if offer.actions.contains(Actions::REQUEST_MACROS) {
        payload.put_slice(&MACRO_LISTS);
    }
    Ok(Message::new(ReplyKind::OptNeg, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(offer: &OptNegPayload) -> Option<Reply> {
        Reply::parse_reply(answer(offer).ok()?).ok()
    }

    fn offer(version: u32, opts: ProtoOpts) -> OptNegPayload {
        OptNegPayload { version, actions: Actions::all(), opts }
    }

    #[test]
    fn only_mail_and_rcpt_are_asked_for_and_no_action() {
        let Some(Reply::OptNeg { version, actions, opts, macros }) = answered(&offer(6, ProtoOpts::all()))
        else {
            panic!("no answer")
        };
        assert_eq!((version, actions), (6, Actions::empty()));
        assert!(!opts.intersects(ProtoOpts::NO_MAIL | ProtoOpts::NO_RCPT | ProtoOpts::REJECTED_RCPT));
        assert!(opts.contains(unneeded()));
        assert_eq!(macros.len(), 7);
        assert_eq!(macros.values().filter(|list| list.is_empty()).count(), 6);
    }

    #[test]
    fn nothing_is_asked_for_that_was_not_offered() {
        let Some(Reply::OptNeg { version, opts, .. }) = answered(&offer(2, ProtoOpts::NO_BODY)) else {
            panic!("no answer")
        };
        assert_eq!((version, opts), (2, ProtoOpts::NO_BODY));
        assert!(answer(&offer(1, ProtoOpts::all())).is_err());
    }
}
