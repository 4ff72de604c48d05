//! How a defence holds against a family of attacks: which attacks, and the experiments that try them.
//!
//! Four experiments: the search over all attacks on the recipe's seeds, the worst attack of each method again
//! on fresh seeds, the same with another task, and a user without harmful data.

mod attacks;
mod cells;
mod experiments;
mod tamperbench;

pub use attacks::{Attack, Profile, attacks};
pub use cells::{aligned, cells, plain};
pub use experiments::{Durability, Trial};
pub use tamperbench::{LOST, TRIALS};
