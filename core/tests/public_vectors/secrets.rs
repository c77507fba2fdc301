//! What a secret type must not be able to do, asked of the compiler, for every secret of the crypto modules.

use core::fmt::{Debug, Display};
use core::hash::Hash;
use core::marker::PhantomData;

use hostchat_core::crypto::sign::SigningKey;
use hostchat_core::crypto::{dh, kdf, kem, mac, pake, siv, stretch};
use hostchat_core::error::{Decode, Error};
use hostchat_core::secret::KdfOutput as _;
use serde::{Deserialize, Serialize};
use zeroize::ZeroizeOnDrop;

/// Tells whether a type implements a trait: an inherent constant wins over one of a trait, where its bounds hold.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code, reason = "not used where the type has the trait")]
        trait Lacks {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Lacks for T {}
        struct Probe<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "not used where the type lacks the trait")]
        impl<T: ?Sized + $($bound)+> Probe<T> {
            const ANSWER: bool = true;
        }
        <Probe<$type>>::ANSWER
    }};
}

/// Lists the traits that a type has and a secret must not have.
macro_rules! leaks {
    ($type:ty) => {
        [
            ("Debug", has!($type: Debug)),
            ("Display", has!($type: Display)),
            ("Clone", has!($type: Clone)),
            ("Copy", has!($type: Copy)),
            ("PartialEq", has!($type: PartialEq)),
            ("Hash", has!($type: Hash)),
            ("Default", has!($type: Default)),
            ("Serialize", has!($type: Serialize)),
            ("Deserialize", has!($type: for<'de> Deserialize<'de>)),
            ("AsRef", has!($type: AsRef<[u8]>)),
        ]
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect::<Vec<_>>()
    };
}

hostchat_core::secret! {
    /// A secret as other modules define them.
    struct DoorKey(32);
    /// A secret that a ratchet copies.
    struct ChainKey(32), duplicate;
}

#[test]
fn the_probe_sees_what_a_public_type_has() {
    let expected = [
        "Debug",
        "Clone",
        "Copy",
        "PartialEq",
        "Hash",
        "Serialize",
        "Deserialize",
    ];
    assert_eq!(leaks!(dh::DhPublic), expected);
    assert_eq!(
        leaks!(str),
        [
            "Debug",
            "Display",
            "PartialEq",
            "Hash",
            "Serialize",
            "AsRef"
        ]
    );
    assert!(!has!(dh::DhPublic: ZeroizeOnDrop));
}

#[test]
fn secrets_lack_everything_that_could_leak_them() {
    macro_rules! check {
        ($($type:ty),+ $(,)?) => {
            $(
                assert_eq!(leaks!($type), [""; 0], stringify!($type));
                assert!(core::mem::needs_drop::<$type>(), stringify!($type));
            )+
        };
    }
    macro_rules! check_marked {
        ($($type:ty),+ $(,)?) => {
            check!($($type),+);
            $(assert!(has!($type: ZeroizeOnDrop), stringify!($type));)+
        };
    }
    check!(SigningKey, pake::Cpace);
    check_marked!(
        DoorKey,
        ChainKey,
        kdf::Prk,
        mac::MacKey,
        siv::SivKey,
        pake::Isk,
        stretch::Stretched,
        stretch::PinPrs,
        stretch::PinWrap,
        dh::DhSecret,
        dh::SharedSecret,
        kem::KemSecret,
        kem::SharedSecret,
    );
}

#[test]
fn secrets_are_made_from_exactly_their_length() {
    assert_eq!(
        DoorKey::from_slice(&[1; 31]).err(),
        Some(Error::Decode(Decode::Truncated))
    );
    assert_eq!(
        DoorKey::from_slice(&[1; 33]).err(),
        Some(Error::Decode(Decode::TrailingBytes))
    );
    let key = DoorKey::from_slice(&[1; 32]).expect("32 bytes");
    assert!(key.ct_eq(&DoorKey::from_bytes([1; DoorKey::LEN])));
    assert!(!key.ct_eq(&DoorKey::from_kdf(|out| out.fill(2))));
    let chain = ChainKey::from_bytes([3; 32]);
    assert!(chain.duplicate().ct_eq(&chain));
}

#[test]
fn wiped_secret_is_zero() {
    let mut key = DoorKey::from_bytes([0xff; 32]);
    key.wipe();
    assert_eq!(key.expose_bytes(), &[0; 32]);
}
