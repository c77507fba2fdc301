//! CPace: the vectors of draft 21 for ristretto255, and what a run refuses.

use alloc::vec;

use hostchat_core::crypto::pake::{Cpace, Isk, Role, danger_generator, danger_scalar_mult_vfy};
use hostchat_core::error::{Error, Peer};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::{Counts, array, hex, json};

const BAD_POINT: Error = Error::PeerMisbehaved(Peer::BadPoint);

#[cfg_attr(test, test)]
pub(crate) fn draft_21_run() {
    let file = json("cpace/testvectors.json");
    let test = &file["G_Coffee25519"];
    let (prs, ci, sid) = (hex(&test["PRS"]), hex(&test["CI"]), array(&test["sid"]));
    assert_eq!(danger_generator(&prs, &ci, &sid), array(&test["g"]));

    let (a, ya) = Cpace::danger_start_with_scalar(&prs, &ci, &sid, array(&test["ya"]));
    let (b, yb) = Cpace::danger_start_with_scalar(&prs, &ci, &sid, array(&test["yb"]));
    assert_eq!(ya, array(&test["Ya"]));
    assert_eq!(yb, array(&test["Yb"]));
    for (scalar, share) in [("ya", &yb), ("yb", &ya)] {
        assert_eq!(
            danger_scalar_mult_vfy(array(&test[scalar]), share),
            Ok(array(&test["K"]))
        );
    }

    let (ad_a, ad_b) = (hex(&test["ADa"]), hex(&test["ADb"]));
    let isk = array::<64>(&test["ISK_IR"]);
    let finish = |cpace: Cpace, role, own: &[&[u8]], share, peer: &[&[u8]]| {
        cpace
            .finish(role, own, share, peer)
            .map(|isk| *isk.expose_bytes())
    };
    assert_eq!(finish(a, Role::Initiator, &[&ad_a], &yb, &[&ad_b]), Ok(isk));
    // An AD in parts is the same AD.
    let (front, back) = ad_a.split_at(1);
    assert_eq!(
        finish(b, Role::Responder, &[&ad_b], &ya, &[front, &[], back]),
        Ok(isk)
    );

    let mut counts = Counts::default();
    counts.record(test, true, true);
    counts.finish(
        "CPace draft 21, G_Coffee25519 (generator, shares, K, ISK of both roles)",
        "",
        1,
        0,
        0,
    );
}

#[cfg_attr(test, test)]
pub(crate) fn draft_21_points() {
    let file = json("cpace/testvectors.json");
    let test = &file["G_Coffee25519_points"];
    let valid = &test["Valid"];
    let product = danger_scalar_mult_vfy(array(&valid["s"]), &array(&valid["X"]));
    assert_eq!(product, Ok(array(&valid["G.scalar_mult(s,decode(X))"])));
    let mut counts = Counts::default();
    counts.record(
        valid,
        true,
        product == Ok(array(&valid["G.scalar_mult_vfy(s,X)"])),
    );
    for name in ["Invalid Y1", "Invalid Y2"] {
        let share = array(&test[name]);
        assert_eq!(
            danger_scalar_mult_vfy(array(&valid["s"]), &share),
            Err(BAD_POINT)
        );
        for role in [Role::Initiator, Role::Responder] {
            let (run, _) =
                Cpace::danger_start_with_scalar(b"123456", b"ci", &[1; 16], array(&valid["s"]));
            let finished = run.finish(role, &[b"own"], &share, &[b"peer"]);
            assert_eq!(finished.err(), Some(BAD_POINT));
        }
        counts.record(&name.into(), false, false);
    }
    counts.finish("CPace draft 21, G_Coffee25519_points", "", 1, 2, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn rfc9496_bad_encodings_are_refused_as_shares() {
    let file = json("ristretto255/rfc9496_ristretto255.json");
    let mut counts = Counts::default();
    for bad in file["bad_encodings"].as_array().expect("encodings") {
        let (run, _) = Cpace::danger_start_with_scalar(b"123456", b"ci", &[1; 16], [7; 32]);
        let finished = run.finish(Role::Initiator, &[], &array(bad), &[]);
        assert_eq!(finished.as_ref().err(), Some(&BAD_POINT));
        counts.record(bad, false, finished.is_ok());
    }
    counts.finish("CPace with RFC 9496 bad encodings", "", 0, 29, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn own_share_coming_back_is_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(21);
    for role in [Role::Initiator, Role::Responder] {
        for _ in 0..20 {
            let (run, share) = Cpace::start(b"123456", b"ci", &[1; 16], &mut rng);
            let finished = run.finish(role, &[b"same"], &share, &[b"same"]);
            assert_eq!(finished.err(), Some(Error::PeerMisbehaved(Peer::Reflected)));
        }
    }
}

/// What one side puts into a run.
#[derive(Clone, Copy)]
struct Side<'a> {
    prs: &'a [u8],
    ci: &'a [u8],
    sid: [u8; 16],
    role: Role,
    own_ad: &'a [u8],
    peer_ad: &'a [u8],
}

fn run(a: Side<'_>, b: Side<'_>, rng: &mut ChaCha20Rng) -> (Isk, Isk) {
    let (run_a, ya) = Cpace::start(a.prs, a.ci, &a.sid, rng);
    let (run_b, yb) = Cpace::start(b.prs, b.ci, &b.sid, rng);
    let isk_a = run_a.finish(a.role, &[a.own_ad], &yb, &[a.peer_ad]);
    let isk_b = run_b.finish(b.role, &[b.own_ad], &ya, &[b.peer_ad]);
    (isk_a.expect("good share"), isk_b.expect("good share"))
}

#[cfg_attr(test, test)]
pub(crate) fn keys_are_equal_only_if_every_input_is() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let a = Side {
        prs: b"123456",
        ci: b"ci",
        sid: [1; 16],
        role: Role::Initiator,
        own_ad: b"A",
        peer_ad: b"B",
    };
    let b = Side {
        role: Role::Responder,
        own_ad: b"B",
        peer_ad: b"A",
        ..a
    };
    let (isk_a, isk_b) = run(a, b, &mut rng);
    assert!(isk_a.ct_eq(&isk_b));
    let (again, _) = run(a, b, &mut rng);
    assert!(!again.ct_eq(&isk_a), "each run is fresh");

    let different = [
        Side {
            prs: b"123457",
            ..b
        },
        Side { prs: b"", ..b },
        Side { ci: b"cI", ..b },
        Side { sid: [2; 16], ..b },
        Side {
            role: Role::Initiator,
            ..b
        },
        Side { own_ad: b"b", ..b },
        Side { peer_ad: b"a", ..b },
        Side {
            own_ad: b"",
            peer_ad: b"BA",
            ..b
        },
    ];
    for other in different {
        let (isk_a, isk_b) = run(a, other, &mut rng);
        assert!(!isk_a.ct_eq(&isk_b));
    }
}

#[cfg_attr(test, test)]
pub(crate) fn passwords_longer_than_a_hash_block_work() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    for length in [0, 6, 107, 108, 109, 110, 127, 128, 129, 1000] {
        let prs = vec![b'x'; length];
        let a = Side {
            prs: &prs,
            ci: b"ci",
            sid: [1; 16],
            role: Role::Initiator,
            own_ad: b"A",
            peer_ad: b"B",
        };
        let b = Side {
            role: Role::Responder,
            own_ad: b"B",
            peer_ad: b"A",
            ..a
        };
        let (isk_a, isk_b) = run(a, b, &mut rng);
        assert!(isk_a.ct_eq(&isk_b), "{length}");
    }
}
