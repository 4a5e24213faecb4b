//! Everything that reads bytes from strangers, on inputs that nobody thought of. The rules stand in `checks`, and the same
//! rules run under libFuzzer (`make fuzz`).

mod checks; // what must hold, for any input
mod corpus; // the committed seeds of the fuzz targets still come to what their names say
mod event; // lead events, as upstream publishes them
mod frames; // frames of the broker, with whatever upstream wrote into its messages
mod generate; // inputs: seeds with edits, JSON of any shape
mod headers; // the headers of an attempt
mod job; // jobs in messages, and messages that are no jobs
mod retry_after; // what a receiver may ask for
mod signature; // secrets and signatures
mod store; // the webhook store, in both of its formats
