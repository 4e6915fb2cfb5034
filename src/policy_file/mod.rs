//! The policy file: TOML to a policy, what is wrong with it, and what changed in it.

mod compile;
pub mod diff;
pub mod edit;
pub mod load;
mod schema;
pub mod walk;

pub use schema::TABLES;

#[cfg(test)]
mod tests;
