//! Standard Webhooks signatures. (To be written.)

use base64::Engine;

/// One signing secret; cannot print.
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// STUB: `whsec_` and base64 of 24 to 64 bytes.
    pub fn parse(text: &str) -> Result<SigningSecret, String> {
        let encoded = text.strip_prefix("whsec_").ok_or("must begin with `whsec_`")?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| "must be base64")?;
        if !(24..=64).contains(&bytes.len()) {
            return Err("must hold 24 to 64 bytes".into());
        }
        Ok(SigningSecret(bytes))
    }

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
