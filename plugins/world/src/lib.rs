//! Judge of the embedded world.
