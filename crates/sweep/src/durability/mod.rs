//! How a defence holds against a family of attacks: which attacks, and the experiments that try them.
//!
//! Three experiments: the search over all attacks on the recipe's seeds, the worst attack of each method again
//! on fresh seeds, and a user without harmful data.

mod attacks;
mod cells;
mod experiments;

pub use attacks::{Attack, Profile, attacks};
pub use cells::{aligned, cells};
pub use experiments::{Durability, Trial};
