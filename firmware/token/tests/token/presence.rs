//! Malware on the host, without a finger: random commands never do what needs a press.

use hostchat_core::icd::link::{FromToken, Lifecycle, ToToken};
use hostchat_core::icd::{Command, LinkError, Reply, TOKEN_VERSION, TokenError};
use hostchat_core::wire::{Bytes, PrekeyKind, codec};
use hostchat_token::Touch;
use hostchat_token::testing::{Silence, TestPin};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::support::{PIN, Person, TODAY, address, paired};

/// One thing that a host can try.
#[derive(Clone, Debug)]
enum Try {
    ChangePin,
    Wipe,
    Reset,
    Init,
    ShowCode { known: bool, accept: bool },
    Offer,
    Answer { accept: bool },
    StartAsOther { accept: bool },
    OpenFromOther { accept: bool },
    Harmless(u8),
    Repeat,
    Restart,
}

fn tries() -> impl Strategy<Value = Try> {
    prop_oneof![
        Just(Try::ChangePin),
        Just(Try::Wipe),
        Just(Try::Reset),
        Just(Try::Init),
        (any::<bool>(), any::<bool>()).prop_map(|(known, accept)| Try::ShowCode { known, accept }),
        Just(Try::Offer),
        any::<bool>().prop_map(|accept| Try::Answer { accept }),
        any::<bool>().prop_map(|accept| Try::StartAsOther { accept }),
        any::<bool>().prop_map(|accept| Try::OpenFromOther { accept }),
        any::<u8>().prop_map(Try::Harmless),
        Just(Try::Repeat),
        Just(Try::Restart),
    ]
}

/// Everything that another identity at Bob's address can send.
struct Other {
    bundle: hostchat_core::wire::PrekeyBundle,
    first: Vec<u8>,
    offer: hostchat_core::wire::PairOffer,
    code: Bytes<6>,
}

fn refused_for_want_of_a_press<T: core::fmt::Debug>(
    result: Result<T, hostchat_token::testing::Refusal>,
) -> Result<(), TestCaseError> {
    match result {
        Err(hostchat_token::testing::Refusal::Failed(
            TokenError::NoTouch | TokenError::IdentityChanged | TokenError::NoCode,
        )) => Ok(()),
        other => Err(TestCaseError::fail(format!("{other:?}"))),
    }
}

fn attempt(
    a: &mut Person,
    other: &Other,
    what: &Try,
    last: &mut Vec<u8>,
) -> Result<(), TestCaseError> {
    let bob = address("bob");
    match what {
        Try::ChangePin => {
            let new = TestPin::new(9);
            let change = Command::ChangePin {
                wrap: Bytes(PIN.wrap),
                new_salt: Bytes([3; 16]),
                new_prs: Bytes(new.prs),
                new_wrap: Bytes(new.wrap),
            };
            refused_for_want_of_a_press(a.bench.done(&change))
        }
        Try::Wipe => refused_for_want_of_a_press(a.bench.done(&Command::Wipe)),
        Try::Reset => {
            prop_assert_eq!(a.bench.reset(), Err(Silence::Refused(LinkError::NoTouch)));
            Ok(())
        }
        Try::Init => {
            let start = ToToken::UnlockStart {
                init: true,
                sid: Bytes([1; 16]),
                share: Bytes([2; 32]),
                version: TOKEN_VERSION,
            };
            let reply = a.bench.send(&start);
            prop_assert_eq!(
                codec::decode(&reply),
                Ok(FromToken::Refused(LinkError::NotBlank))
            );
            Ok(())
        }
        Try::ShowCode { known, accept } => {
            let peer = if *known { bob } else { address("stranger") };
            refused_for_want_of_a_press(a.show_code(&peer, *accept))
        }
        Try::Offer => refused_for_want_of_a_press(a.offer()),
        Try::Answer { accept } => {
            refused_for_want_of_a_press(a.answer(&other.offer, other.code, *accept))
        }
        Try::StartAsOther { accept } => {
            refused_for_want_of_a_press(a.start(&bob, &other.bundle, *accept))
        }
        Try::OpenFromOther { accept } => refused_for_want_of_a_press(a.open(&other.first, *accept)),
        Try::Harmless(which) => {
            let command = match which % 6 {
                0 => Command::Status,
                1 => Command::Seal {
                    peer: bob,
                    content: b"as an oracle, yes",
                },
                2 => Command::Discard,
                3 => Command::PairEnd,
                4 => Command::NewPrekey {
                    kind: PrekeyKind::LastResort,
                    now: TODAY,
                },
                _ => Command::Random,
            };
            let request = a.bench.seal_command(&command);
            let reply = a.bench.send_raw(&request);
            *last = request;
            let answered = a
                .bench
                .open_reply(&reply)
                .map(|reply| !matches!(reply, Reply::Failed(_)));
            prop_assert_eq!(answered, Ok(true));
            Ok(())
        }
        Try::Repeat => {
            a.bench.send_raw(last);
            Ok(())
        }
        Try::Restart => {
            a.restart();
            last.clear();
            Ok(())
        }
    }
}

#[test]
fn random_commands_without_a_press_do_nothing_that_needs_one() {
    let sequences = std::env::var("HOSTCHAT_SEQUENCES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2000);
    let (mut a, b) = paired();
    let mut eve = Person::new("bob", 66);
    let bundle_of_a = a.bundle(false);
    let bundle = eve.bundle(true);
    eve.start(&a.address, &bundle_of_a, false).unwrap();
    let first = eve.seal(&a.address, b"trust me").unwrap();
    let code = eve.show_code(&a.address, false).unwrap();
    let (offer, _) = eve.offer().unwrap();
    let other = Other {
        bundle,
        first,
        offer,
        code,
    };
    let identity = a.identity();
    a.bench.env.control().finger = Touch::TimedOut;

    let mut runner = TestRunner::new(Config {
        cases: sequences,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&proptest::collection::vec(tries(), 1..12), |sequence| {
        let mut a = a.fork();
        let mut last = Vec::new();
        for what in &sequence {
            attempt(&mut a, &other, what, &mut last)?;
        }
        prop_assert_eq!(a.contacts(), [(b.address.clone(), true, 1)]);
        prop_assert_eq!(a.identity(), identity);
        prop_assert_eq!(a.status().pending, 0);
        prop_assert_eq!(
            a.bench.hello().map(|hello| hello.lifecycle),
            Ok(Lifecycle::Ready)
        );
        a.bench.lock();
        prop_assert_eq!(a.bench.unlock(PIN), Ok(()));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    println!("{sequences} command sequences without a press: nothing that needs one was done");
}
