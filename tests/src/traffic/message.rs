//! What flows carry: the one message (flow number, sequence number, padding),
//! or bytes that tell where in the stream they belong.

/// Size of a message on the wire.
pub(super) const BYTES: usize = 64;

/// Says which message of which flow this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    /// Number of the flow.
    pub(super) flow: u64,
    /// Number within the flow, from 0.
    pub(super) sequence: u64,
}

impl Message {
    /// The message as it is sent.
    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.flow.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// The message in what was received; `None` if it is not one.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != BYTES {
            return None;
        }
        let flow = u64::from_be_bytes(bytes[..8].try_into().ok()?);
        let sequence = u64::from_be_bytes(bytes[8..16].try_into().ok()?);
        Some(Self { flow, sequence })
    }
}

/// Bytes `start` to `start + length` of a stream in which no two packets are alike.
pub(super) fn content(start: usize, length: usize) -> Vec<u8> {
    (start..start + length)
        .map(|at| u8::try_from((at * 7 + at / 251) % 251).expect("below 251"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let message = Message {
            flow: 7,
            sequence: u64::MAX,
        };
        assert_eq!(Message::from_bytes(&message.to_bytes()), Some(message));
        assert_eq!(Message::from_bytes(&[0; 63]), None);
    }
}
