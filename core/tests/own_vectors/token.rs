//! Host and token: the PIN, the unlock, the channel, the link's frames, the PIN box.

use alloc::vec;
use alloc::vec::Vec;

use hostchat_core::crypto::pake::Role;
use hostchat_core::crypto::stretch::Stretched;
use hostchat_core::icd::link::{MAX_SERIAL, encode_serial};
use hostchat_core::icd::{
    Command, FromToken, HostUnlock, MAX_LINK, ToToken, TokenUnlock, UnlockKind,
};
use hostchat_core::wire::{Bytes, codec};

use super::doc::Doc;
use super::second::{Pake, Script, array, expand, extract, hmac, lv, lv_cat, sha256, siv, varint};

const PIN: &str = "1234 or a passphrase";

type Link = heapless::Vec<u8, MAX_LINK>;

fn encode<T: serde::Serialize>(message: &T) -> Vec<u8> {
    codec::encode_vec::<_, MAX_LINK>(message).unwrap().to_vec()
}

/// Argon2id of the crate, which the public vectors have tested.
#[cfg(test)]
fn stretched(salt: &[u8; 16]) -> Stretched {
    use hostchat_core::crypto::stretch::{Block, STRETCH_BLOCKS, stretch};

    let mut memory = vec![Block::default(); STRETCH_BLOCKS];
    stretch(PIN.as_bytes(), salt, &mut memory).unwrap()
}

/// Only hosts stretch, with 64 MiB of memory that no chip has: there its result comes from the file.
#[cfg(not(test))]
fn stretched(_salt: &[u8; 16]) -> Stretched {
    let file = super::text(&alloc::format!("{}/channel.json", super::FOLDER));
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    Stretched::from_slice(&hex::decode(file["argon2id"].as_str().unwrap()).unwrap()).unwrap()
}

/// PRS and W of the PIN.
fn pin(salt: &[u8; 16]) -> ([u8; 32], [u8; 32], [u8; 32]) {
    let stretched = stretched(salt);
    let prs: [u8; 32] = expand(stretched.expose_bytes(), "hostchat/1 pin prs");
    let wrap: [u8; 32] = expand(stretched.expose_bytes(), "hostchat/1 pin wrap");
    assert_eq!(stretched.prs().expose_bytes(), &prs);
    assert_eq!(stretched.wrap().expose_bytes(), &wrap);
    (*stretched.expose_bytes(), prs, wrap)
}

/// One run with the crate and once more from the primitives.
fn unlock(kind: UnlockKind, prs: &[u8], first: &[u8]) -> Doc {
    let (token_id, salt): ([u8; 16], [u8; 16]) = (array("token id"), array("salt"));
    let (id, salt_bytes) = (Bytes(token_id), Bytes(salt));
    let mut rng = Script::new(&["unlock sid", "unlock scalar host", "unlock scalar token"]);
    let (host, start) = HostUnlock::start(kind, &id, &salt_bytes, prs, &mut rng).unwrap();
    let ToToken::UnlockStart {
        sid,
        share,
        version,
        ..
    } = start
    else {
        panic!("message 1")
    };
    let (token, answer) =
        TokenUnlock::answer(kind, &id, &salt_bytes, prs, sid, share, version, &mut rng).unwrap();
    let (mut host, tag) = host.finish(&answer).unwrap();
    let mut body = Link::new();
    host.seal(first, &mut body).unwrap();
    let finish = encode(&ToToken::UnlockFinish { tag, body: &body });
    let mut secret = heapless::Vec::new();
    let mut token = token.finish(&tag, &body, &mut secret).unwrap();
    assert_eq!(secret, first);
    let mut ok = Link::new();
    token
        .seal(&encode(&hostchat_core::icd::Reply::Done), &mut ok)
        .unwrap();
    let fourth = encode(&FromToken::Sealed {
        counter: 0,
        body: &ok,
    });
    let mut command = Link::new();
    let counter = host
        .seal(&encode(&Command::Identity), &mut command)
        .unwrap();
    let fifth = encode(&ToToken::Sealed {
        counter,
        body: &command,
    });

    let (ci_label, th_label) = match kind {
        UnlockKind::Unlock => ("hostchat/1 unlock ci", "hostchat/1 unlock th"),
        UnlockKind::Init => ("hostchat/1 init ci", "hostchat/1 init th"),
    };
    let sid: [u8; 16] = array("unlock sid");
    let ci = lv_cat(&[ci_label.as_bytes(), &[1], &token_id, &salt]);
    let (pake_h, pake_t) = (
        Pake::new(prs, &ci, &sid, "unlock scalar host"),
        Pake::new(prs, &ci, &sid, "unlock scalar token"),
    );
    let (ya, yb) = (pake_h.share, pake_t.share);
    let isk = pake_h.isk(Role::Initiator, &[1, 2], &yb, &[2, 2]);
    let th = sha256(&lv_cat(&[
        th_label.as_bytes(),
        &ci,
        &sid,
        &ya,
        &[1, 2],
        &yb,
        &[2, 2],
    ]));
    let prk = extract(&th, &[&isk]);
    let k_a: [u8; 32] = expand(&prk, "hostchat/1 channel confirm a");
    let k_b: [u8; 32] = expand(&prk, "hostchat/1 channel confirm b");
    let h2t: [u8; 64] = expand(&prk, "hostchat/1 channel h2t");
    let t2h: [u8; 64] = expand(&prk, "hostchat/1 channel t2h");
    let (tag_a, tag_b) = (hmac(&k_a, &th), hmac(&k_b, &th));

    let init = u8::from(kind == UnlockKind::Init);
    assert_eq!(encode(&start), [&[1, init][..], &sid, &ya, &[2]].concat());
    assert_eq!(encode(&answer), [&[1][..], &yb, &[2], &tag_b].concat());
    let sealed = siv(&h2t, &[b"h2t", &0u64.to_be_bytes()], first);
    assert_eq!(finish, [&[2][..], &tag_a, &lv(&sealed)].concat());
    let sealed = siv(&t2h, &[b"t2h", &0u64.to_be_bytes()], &[0]);
    assert_eq!(fourth, [&[2][..], &varint(0), &lv(&sealed)].concat());
    let sealed = siv(&h2t, &[b"h2t", &1u64.to_be_bytes()], &[1]);
    assert_eq!(fifth, [&[3][..], &varint(1), &lv(&sealed)].concat());

    let mut serial = heapless::Vec::<u8, MAX_SERIAL>::new();
    encode_serial(0x5a, &start, &mut serial).unwrap();
    assert_eq!(serial, serial_frame(0x5a, &encode(&start))[..]);

    Doc::default()
        .hex("prs", prs)
        .map("random", rng.into_doc())
        .hex("ci", ci)
        .hex("ya", ya)
        .hex("yb", yb)
        .hex("isk", isk)
        .hex("th", th)
        .hex("prk", prk)
        .hex("k_a", k_a)
        .hex("k_b", k_b)
        .hex("h2t", h2t)
        .hex("t2h", t2h)
        .hex("message_1", encode(&start))
        .hex("message_1_on_a_serial_line_with_sequence_5a", &serial)
        .hex("message_2", encode(&answer))
        .hex("content_of_message_3", first)
        .hex("message_3", finish)
        .hex("message_4", fourth)
        .hex("command_identity", fifth)
}

/// 0x00, COBS(sequence, message, CRC-16/IBM-3740), 0x00.
fn serial_frame(sequence: u8, message: &[u8]) -> Vec<u8> {
    let mut raw = [&[sequence], message].concat();
    let mut crc = 0xffff_u16;
    for byte in &raw {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
        }
    }
    raw.extend_from_slice(&crc.to_be_bytes());
    let mut out = vec![0];
    for (i, run) in raw.split(|byte| *byte == 0).enumerate() {
        // Runs of 254 and more need further blocks; the messages here are shorter.
        assert!(run.len() < 254, "run {i}");
        out.push(u8::try_from(run.len() + 1).unwrap());
        out.extend_from_slice(run);
    }
    out.push(0);
    out
}

#[cfg_attr(test, test)]
pub(crate) fn channel() {
    let (stretched, prs, wrap) = pin(&array("salt"));
    let init_content = [prs, wrap].concat();
    Doc::about("The PIN, an unlock, an initialisation and the channel (SPEC section 10).")
        .hex("token_id", array::<16>("token id"))
        .hex("salt", array::<16>("salt"))
        .text("pin", PIN)
        .hex("argon2id", stretched)
        .hex("prs", prs)
        .hex("w", wrap)
        .map("unlock", unlock(UnlockKind::Unlock, &prs, &wrap))
        .map("init", unlock(UnlockKind::Init, b"", &init_content))
        .check("channel");
}

#[cfg_attr(test, test)]
pub(crate) fn pin_box() {
    let (token_id, salt): ([u8; 16], [u8; 16]) = (array("token id"), array("salt"));
    let (_, prs, wrap) = pin(&salt);
    let (slot, master): ([u8; 32], [u8; 32]) = (array("slot key"), array("master key"));
    let key: [u8; 64] = expand(&extract(&slot, &[&wrap]), "hostchat/1 pin box");
    let sealed = siv(&key, &[&[1], &token_id, &salt], &master);
    let record = [&[1][..], &token_id, &salt, &prs, &sealed].concat();
    let storage: [u8; 32] = expand(&extract(b"", &[&master]), "hostchat/1 storage");
    Doc::about("The box that holds the master key on a token, and the key of the host's store (SPEC section 13).")
        .hex("token_id", token_id)
        .hex("salt", salt)
        .hex("prs", prs)
        .hex("w", wrap)
        .hex("slot_key", slot)
        .hex("master_key", master)
        .hex("siv_key", key)
        .hex("pin_record", record)
        .hex("storage_key", storage)
        .check("pin_box");
}
