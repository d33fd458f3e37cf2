//! An input as a source of small choices.

/// Bytes that are used up one after the other; behind the end are zeros.
pub(super) struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    pub(super) fn new(bytes: &'i [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    /// One of several.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    pub(super) fn one_in(&mut self, n: u8) -> bool {
        // Zeros are the ordinary case.
        self.below(n) == n - 1
    }
}
