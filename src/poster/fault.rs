//! Which [`Fault`] an error of the HTTP client is. Types decide, never texts: texts change with each release.

use std::{error::Error, io};

use super::resolver::LookupFailed;
use crate::delivery::outcome::Fault;

/// Sorts an error of sending or reading. `over_tls` is whether the URL says `https`.
pub(super) fn classify(error: &reqwest::Error, over_tls: bool) -> Fault {
    if error.is_builder() {
        Fault::UnusableTarget
    } else if has::<LookupFailed>(error) {
        Fault::Dns
    } else if has::<rustls::Error>(error) {
        Fault::Tls
    } else if !error.is_connect() {
        Fault::Broken
    } else if over_tls && hung_up(error) {
        // The connection stood, and the other side left it in the middle of the handshake.
        Fault::Tls
    } else {
        Fault::Connect
    }
}

fn hung_up(error: &(dyn Error + 'static)) -> bool {
    let kinds = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|error| kinds.contains(&error.kind()))
}

fn has<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<E>())
}

/// The error and everything below it. An `io::Error` that wraps another error is no link of the source chain (its
/// `source` is the wrapped error's), so it is opened by hand.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}
