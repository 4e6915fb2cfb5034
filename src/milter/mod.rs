//! The milter: what the MTA asks, and what it is answered.
//!
//! Built on indymilter's frames, commands and replies, with a loop of its own around them, for four things
//! that its `run` cannot be brought to from outside: a macro that the MTA did not send for this message must
//! not be read from the one before; an open transaction must get to its end when the daemon stops; an
//! accept that fails must end nothing; and a connection must not cost two tasks and two channels.
//!
//! [`connection`] is the shell: it reads frames, and writes replies. [`session`] decides, and knows neither
//! frames nor sockets. [`macros`] alone knows the names of macros, [`mta`] what other MTAs than sendmail mean by
//! them; [`negotiate`] says what we ask for.

pub mod connection;
pub mod macros;
pub mod mta;
mod negotiate;
pub mod session;
