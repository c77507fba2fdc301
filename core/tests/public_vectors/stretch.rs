//! The stretch of a PIN: Argon2id with our fixed parameters against another implementation.

use hostchat_core::crypto::stretch::{Block, STRETCH_BLOCKS, stretch};
use hostchat_core::error::{Error, Misuse};

/// The values come from OpenSSL 4.0.0 (Argon2id, HKDF-Expand): PIN "1234", salt 00 01 .. 0f, 64 MiB, t = 3, p = 1.
#[test]
fn stretching_agrees_with_openssl_and_wipes_its_memory() {
    let mut memory = vec![Block::new(); STRETCH_BLOCKS];
    let salt = core::array::from_fn(|i| i as u8);
    let stretched = stretch(b"1234", &salt, &mut memory).expect("enough memory");
    let (prs, wrap) = (stretched.prs(), stretched.wrap());
    let expected = [
        (
            stretched.expose_bytes(),
            "25aff3856b38697ed256e1face06782e6b80c89602655565b6171a1f8122ba56",
        ),
        (
            prs.expose_bytes(),
            "b327bf1c8e03b7214e3c7fcce1d665627e66b36c3292360f8abfc76542827ea4",
        ),
        (
            wrap.expose_bytes(),
            "702dfb9f0681408a587c72e8e91a08e6fdd4600a450f9982e15b631c1639414c",
        ),
    ];
    for (ours, theirs) in expected {
        assert_eq!(hex::encode(ours), theirs);
    }
    let left = memory
        .iter()
        .flat_map(|block| block.as_ref())
        .filter(|word| **word != 0)
        .count();
    assert_eq!(left, 0, "the memory holds traces of the PIN");
    println!("Argon2id 64 MiB, t = 3, p = 1: agrees with OpenSSL 4.0.0; memory wiped");
}

#[test]
fn too_little_memory_is_refused() {
    let mut memory = vec![Block::new(); STRETCH_BLOCKS - 1];
    let refused = stretch(b"1234", &[0; 16], &mut memory);
    assert_eq!(
        refused.err(),
        Some(Error::ApiMisuse(Misuse::BufferTooSmall))
    );
}
