//! Keys of WireGuard, in a form that no message can tell by accident.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use x25519_dalek::{PublicKey as Point, StaticSecret};

/// Stands for a secret where files are only shown.
const HIDDEN: &str = "(hidden)";

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

/// As in a configuration.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private or a preshared key.
#[derive(Clone)]
pub struct Secret(StaticSecret);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Secret {
    /// A private key of 32 random bytes, clamped as `wg genkey` does (RFC 7748 section 5).
    pub fn private(mut random: [u8; 32]) -> Self {
        random[0] &= 0xf8;
        random[31] = (random[31] & 0x7f) | 0x40;
        Self(random.into())
    }

    /// A preshared key of 32 random bytes.
    pub fn preshared(random: [u8; 32]) -> Self {
        Self(random.into())
    }

    /// The public key of a private one.
    pub fn public(&self) -> PublicKey {
        PublicKey(Point::from(&self.0).to_bytes())
    }

    /// As in a configuration, or what stands for it.
    pub(super) fn text(&self, secrets: Secrets) -> String {
        match secrets {
            Secrets::Written => STANDARD.encode(self.0.as_bytes()),
            Secrets::Hidden => HIDDEN.into(),
        }
    }
}

/// Whether a text holds secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// It does: for a file that only root can read.
    Written,
    /// It does not: for a screen.
    Hidden,
}

/// The secrets of one tunnel, for both ends.
#[derive(Clone, Debug)]
pub struct TunnelKeys {
    /// This gateway's private key.
    pub near: Secret,
    /// The far gateway's private key.
    pub far: Secret,
    /// What both know.
    pub preshared: Option<Secret>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_wireguard() {
        // RFC 7748 section 6.1: Alice's.
        let private: [u8; 32] = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2,
            0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5,
            0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let public: [u8; 32] = [
            0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e,
            0xf7, 0x5a, 0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e,
            0xaa, 0x9b, 0x4e, 0x6a,
        ];
        let secret = Secret::private(private);
        assert_eq!(secret.public(), PublicKey(public));
        // Written clamped, as others write it.
        let text = secret.text(Secrets::Written);
        let written = STANDARD.decode(&text).expect("base64");
        assert_eq!(text.len(), 44);
        assert_eq!((written[0] & 7, written[31] & 0xc0), (0, 0x40));
        assert_eq!(
            secret.public(),
            Secret::private(written.try_into().expect("32 bytes")).public()
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let keys = TunnelKeys {
            near: Secret::private([1; 32]),
            far: Secret::private([2; 32]),
            preshared: Some(Secret::preshared([3; 32])),
        };
        let shown = format!("{keys:?} {}", keys.near.text(Secrets::Hidden));
        assert_eq!(
            shown,
            "TunnelKeys { near: (hidden), far: (hidden), preshared: Some((hidden)) } (hidden)"
        );
    }
}
