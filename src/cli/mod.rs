//! (to be written)

pub mod output;
pub mod publish;
pub mod sample;
