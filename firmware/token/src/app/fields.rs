//! Reading and writing the fields of records.

use crate::store::StoreError;

/// Takes fields from the front of a record.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(StoreError::Damaged)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(super) fn byte(&mut self) -> Result<u8, StoreError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, StoreError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, StoreError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A slice behind its length of two bytes.
    pub(super) fn slice(&mut self) -> Result<&'a [u8], StoreError> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let (field, rest) = self.0.split_at_checked(length).ok_or(StoreError::Damaged)?;
        self.0 = rest;
        Ok(field)
    }

    pub(super) fn version(&mut self, version: u8) -> Result<(), StoreError> {
        if self.byte()? == version {
            Ok(())
        } else {
            Err(StoreError::Damaged)
        }
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn finish(self) -> Result<(), StoreError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(StoreError::Damaged)
        }
    }
}

/// Puts fields at the front of a buffer.
pub(super) struct Put<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl<'a> Put<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, length: 0 }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let place = self
            .buffer
            .get_mut(self.length..self.length + bytes.len())
            .ok_or(StoreError::Full)?;
        place.copy_from_slice(bytes);
        self.length += bytes.len();
        Ok(())
    }

    /// A slice behind its length of two bytes.
    pub(super) fn slice(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let length = u16::try_from(bytes.len()).map_err(|_| StoreError::Full)?;
        self.bytes(&length.to_le_bytes())?;
        self.bytes(bytes)
    }

    /// The place behind what was put.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.length..).unwrap_or_default()
    }

    /// Counts what was written to [`Put::rest`].
    pub(super) fn skip(&mut self, length: usize) {
        self.length += length;
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }
}
