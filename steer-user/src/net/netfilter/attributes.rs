//! Netlink attributes as nfnetlink uses them: numbers in network order, text
//! that ends with a zero byte.

use std::io;

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};

use super::{malformed, text};

/// The attributes in some bytes, by number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// All of them, with their numbers.
    pub(super) fn iter(self) -> impl Iterator<Item = io::Result<(u16, &'a [u8])>> {
        NlasIterator::new(self.0).map(|attribute| {
            let attribute = attribute.map_err(|_| malformed())?;
            let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
            Ok((kind, &attribute.into_inner()[NLA_HEADER_SIZE..length]))
        })
    }

    /// The attributes in each attribute of this number.
    pub(super) fn each(self, kind: u16) -> impl Iterator<Item = io::Result<Attributes<'a>>> {
        self.iter().filter_map(move |attribute| match attribute {
            Ok((found, value)) => (found == kind).then_some(Ok(Self(value))),
            Err(error) => Some(Err(error)),
        })
    }

    /// The value of the first attribute of this number.
    pub(super) fn bytes(self, kind: u16) -> io::Result<Option<&'a [u8]>> {
        for attribute in self.iter() {
            let (found, value) = attribute?;
            if found == kind {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The attributes in this one; none where it is not there.
    pub(super) fn nested(self, kind: u16) -> io::Result<Self> {
        Ok(Self(self.bytes(kind)?.unwrap_or_default()))
    }

    pub(super) fn number(self, kind: u16) -> io::Result<Option<u32>> {
        self.bytes(kind)?
            .map(|value| match value.try_into() {
                Ok(bytes) => Ok(u32::from_be_bytes(bytes)),
                Err(_) => Err(malformed()),
            })
            .transpose()
    }

    pub(super) fn text(self, kind: u16) -> io::Result<Option<String>> {
        Ok(self.bytes(kind)?.map(text))
    }

    /// A name that has to be there.
    pub(super) fn name(self, kind: u16) -> io::Result<String> {
        self.text(kind)?.ok_or_else(malformed)
    }
}

/// Attributes made by hand.
#[cfg(test)]
pub(super) mod build {
    pub(in super::super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).expect("a short value");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    pub(in super::super) fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
        attribute(kind | 0x8000, &parts.concat())
    }

    pub(in super::super) fn number(kind: u16, value: u32) -> Vec<u8> {
        attribute(kind, &value.to_be_bytes())
    }

    pub(in super::super) fn text(kind: u16, value: &str) -> Vec<u8> {
        attribute(kind, format!("{value}\0").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let bytes = [
            build::number(3, 7),
            build::text(1, "filter"),
            build::nested(4, &[build::number(1, 8), build::number(1, 9)]),
        ]
        .concat();
        let attributes = Attributes::new(&bytes);
        assert_eq!(attributes.number(3).expect("sound"), Some(7));
        assert_eq!(attributes.number(2).expect("sound"), None);
        assert_eq!(attributes.name(1).expect("there"), "filter");
        assert!(attributes.name(2).is_err());
        assert!(attributes.number(1).is_err(), "not four bytes");
        let inner = attributes.nested(4).expect("sound");
        assert_eq!(inner.number(1).expect("sound"), Some(8));
        assert_eq!(inner.each(1).count(), 2);
        assert_eq!(
            attributes.nested(5).expect("sound").iter().count(),
            0,
            "not there is empty"
        );
    }

    #[test]
    fn cut_off() {
        let bytes = build::text(1, "filter");
        let attributes = Attributes::new(&bytes[..8]);
        assert!(attributes.bytes(1).is_err());
        assert!(attributes.bytes(2).is_err());
    }
}
