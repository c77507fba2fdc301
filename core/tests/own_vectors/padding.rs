//! Padding, and what is no padding.

use alloc::vec;
use alloc::vec::Vec;

use hostchat_core::error::Error;
use hostchat_core::wire::{MAX_CONTENT, MAX_PADDED, pad};

use super::doc::Doc;
use super::second::padded;

#[cfg_attr(test, test)]
pub(crate) fn padding() {
    let mut contents = Vec::new();
    for content in [&b""[..], b"hello", &[0x61; 62], &[0x61; 63], &[0; 100]] {
        let mut out = heapless::Vec::<u8, MAX_PADDED>::new();
        pad::pad(content, &mut out).unwrap();
        assert_eq!(out, padded(content)[..]);
        contents.push(Doc::default().hex("content", content).hex("padded", &out));
    }
    let mut lengths = Vec::new();
    for len in 0..=MAX_CONTENT {
        let padded = padded(&vec![1; len]).len();
        assert_eq!(pad::padded_len(len), padded);
        if [
            0, 62, 63, 70, 71, 126, 127, 500, 1000, 2046, 2047, 4000, 4096,
        ]
        .contains(&len)
        {
            lengths.push(
                Doc::default()
                    .number("content", len as u64)
                    .number("padded", padded as u64),
            );
        }
    }
    let mut refused = Vec::new();
    for (why, bytes) in [
        ("no length", vec![5]),
        ("content cut short", vec![5, 0, 1, 2, 3, 4]),
        ("length over 4096", [vec![1, 16], vec![0; 4350]].concat()),
        (
            "a byte of the padding is not zero",
            [padded(b"hello")[..63].to_vec(), vec![1]].concat(),
        ),
        ("padded too little", padded(b"hello")[..63].to_vec()),
        ("padded too much", [padded(b"hello"), vec![0; 8]].concat()),
    ] {
        assert!(
            matches!(
                pad::unpad(&bytes),
                Err(Error::Decode(_) | Error::PeerMisbehaved(_))
            ),
            "{why}"
        );
        refused.push(Doc::default().text("why", why).hex("padded", bytes));
    }
    Doc::about("Padding of contents (SPEC section 6.3).")
        .list("contents", contents)
        .list("lengths", lengths)
        .list("refused", refused)
        .check("padding");
}
