//! Standard Webhooks signatures. (To be written.)

/// One signing secret; cannot print.
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// The key's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
