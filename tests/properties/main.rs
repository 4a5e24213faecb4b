//! Property tests of everything that reads bytes from outside. The rules are in `checks`, and also run under libFuzzer
//! (`make fuzz`).

mod checks; // the rules, for any input
mod corpus; // the committed seeds of the fuzz targets still give the results in their names
mod event; // lead events, as upstream publishes them
mod frames; // frames from the broker, with anything that upstream wrote into its messages
mod generate; // inputs: seeds with edits, JSON of any shape
mod headers; // the headers of an attempt
mod job; // jobs in messages, and messages that are not jobs
mod retry_after; // waits that a receiver may ask for
mod signature; // secrets and signatures
mod store; // the webhook store, in both of its formats
