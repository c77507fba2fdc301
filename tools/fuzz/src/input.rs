//! The bytes of a fuzzer, taken off one decision at a time.

/// What is left of an input. At its end every decision is zero, and [`Input::is_empty`] tells an interpreter to stop.
pub(crate) struct Input<'b> {
    rest: &'b [u8],
}

impl<'b> Input<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((byte, rest)) => {
                self.rest = rest;
                *byte
            }
            None => 0,
        }
    }

    /// The next two bytes, little-endian.
    pub(crate) fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A yes or no.
    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A place in something of `length` elements; 0 if it is empty.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        let number = usize::from(self.number());
        number % length.max(1)
    }

    /// The next `length` bytes, or as many as there are.
    pub(crate) fn bytes(&mut self, length: usize) -> &'b [u8] {
        let (bytes, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// The next `N` bytes; zeros behind the end.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'b [u8] {
        self.bytes(usize::MAX)
    }
}
