//! Describes errors of the operating system in words that say what to check.

use std::io::{self, ErrorKind};

/// Describes an error. Shows the operating system's error number only if there are no words for the kind of error.
pub fn words(error: &io::Error) -> String {
    let words = match error.kind() {
        ErrorKind::NotFound => "there is no such file or directory",
        ErrorKind::PermissionDenied => "permission is denied",
        ErrorKind::AlreadyExists => "it exists already",
        ErrorKind::IsADirectory => "it is a directory",
        ErrorKind::NotADirectory => "a part of the path is not a directory",
        ErrorKind::StorageFull => "the disk is full",
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        ErrorKind::ConnectionRefused => "the connection was refused",
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => "the other side closed the connection",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "the network has no way there",
        ErrorKind::TimedOut => "there was no answer in time",
        ErrorKind::AddrInUse => "another process uses this address",
        ErrorKind::AddrNotAvailable => "this machine does not have this address",
        // The text comes from a library, not from the operating system.
        _ if error.raw_os_error().is_none() => return error.to_string(),
        _ => return format!("the operating system says: {error}"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_never_stands_alone() {
        for code in [1, 2, 13, 20, 21, 28, 98, 99, 101, 104, 110, 111, 113] {
            let words = words(&io::Error::from_raw_os_error(code));
            assert!(!words.contains("os error"), "{code}: {words}");
        }
        assert!(words(&io::Error::from_raw_os_error(5)).starts_with("the operating system says: "));
        assert_eq!(words(&io::Error::other("is larger than 16 MiB")), "is larger than 16 MiB");
    }
}
