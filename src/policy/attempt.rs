//! Which message it is that is tried again: what `max-delay` is reckoned by.
//!
//! Promises: a retry gives the same [`Attempt`], from whichever host of the sender's pool it comes. Where two
//! messages cannot be told apart they are one, for then the later is accepted sooner, not later.

use super::decide::Envelope;
use super::facts::{Direction, Facts, told_address};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// A message, as it is tried again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt(pub u64);

impl Attempt {
    /// Mail to us: by sender, recipient, and the registered domain of the client's confirmed name; hosts without
    /// one are not told apart, for a pool's next host may well have another address. Mail from us: by its
    /// queue id. Nothing where no message is named.
    pub fn of(facts: &Facts<'_>, envelope: Envelope<'_>) -> Option<Self> {
        let address = |address| told_address(facts.direction, address);
        let parts = match facts.direction {
            Direction::Inbound => {
                let recipient = envelope.recipient.map(address).unwrap_or_default();
                ["in", envelope.sender.map(address)?, recipient, &facts.peer_domain().unwrap_or_default()]
                    .map(str::to_owned)
            }
            Direction::Outbound => ["out", facts.queue_id.as_deref()?, "", ""].map(str::to_owned),
        };
        let mut hasher = SipHasher13::new();
        for part in parts {
            hasher.write(part.as_bytes());
            // No address and no name has such a byte.
            hasher.write_u8(0);
        }
        Some(Self(hasher.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::facts::Told;

    fn inbound(name: &str, resolve: &str, sender: &str, recipient: &str) -> Option<Attempt> {
        let told = Told {
            peer_addr: Some(b"192.0.2.7"),
            peer_name: Some(name.as_bytes()),
            peer_resolve: Some(resolve.as_bytes()),
            ..Told::default()
        };
        let envelope = Envelope { sender: Some(sender), recipient: Some(recipient), ..Envelope::default() };
        Attempt::of(&Facts::inbound(&told), envelope)
    }

    #[test]
    fn a_retry_from_another_host_of_the_pool_is_the_same_message() {
        let first = inbound("out1.pool.partner.example", "OK", "<a@x.example>", "<u@here.example>");
        assert_eq!(first, inbound("OUT2.partner.example.", "OK", "a@x.example", "u@here.example"));
        let unnamed = inbound("[192.0.2.7]", "FAIL", "<a@x.example>", "<u@here.example>");
        assert_eq!(unnamed, inbound("x.partner.example", "FORGED", "<a@x.example>", "<u@here.example>"));
        let others = [
            unnamed,
            inbound("out1.pool.partner.example", "OK", "<b@x.example>", "<u@here.example>"),
            inbound("out1.pool.partner.example", "OK", "<a@x.example>", "<v@here.example>"),
            inbound("out1.other.example", "OK", "<a@x.example>", "<u@here.example>"),
            inbound("out1.pool.partner.example", "OK", "<>", "<u@here.example>"),
        ];
        assert!(others.iter().all(|other| other.is_some() && *other != first));
    }

    #[test]
    fn a_delivery_is_known_by_its_queue_id_whichever_server_it_goes_to() {
        let to = |server: &str, id: Option<&str>| {
            let told = Told {
                peer_name: Some(server.as_bytes()),
                queue_id: id.map(str::as_bytes),
                ..Told::default()
            };
            Attempt::of(&Facts::outbound(&told), Envelope::default())
        };
        assert_eq!(to("mx1.partner.example", Some("A")), to("mx2.other.example", Some("A")));
        assert_ne!(to("mx1.partner.example", Some("A")), to("mx1.partner.example", Some("B")));
        assert_eq!(to("mx1.partner.example", None), None);
    }
}
