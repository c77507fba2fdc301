//! The PIN: tries, their charges, the wipe, its change; the channel.

use hostchat_core::icd::link::{FromToken, Lifecycle, ToToken};
use hostchat_core::icd::{Command, LinkError, Reply, TOKEN_VERSION, TokenError, UnlockKind};
use hostchat_core::wire::{Bytes, Generation, PrekeyKind, codec};
use hostchat_token::testing::{Bench, Refusal, Silence, TestPin};
use hostchat_token::{PresencePolicy, Touch, TouchReason};

use super::support::{PIN, Person, TODAY, failed, paired};

fn refused<T>(error: LinkError) -> Result<T, Silence> {
    Err(Silence::Refused(error))
}

fn wrong(tries: u8, tries_now: u8) -> Result<(), Silence> {
    refused(LinkError::WrongPin { tries, tries_now })
}

fn ready() -> Bench {
    let mut bench = Bench::blank(1);
    bench.init(PIN).unwrap();
    bench.lock();
    bench
}

fn tries(bench: &mut Bench) -> (u8, u8) {
    let hello = bench.hello().unwrap();
    (hello.tries, hello.tries_now)
}

#[cfg_attr(test, test)]
pub(crate) fn three_tries_per_power_cycle_and_eight_in_all_then_the_keys_are_gone() {
    let mut bench = ready();
    let bad = TestPin::new(9);
    assert_eq!(bench.unlock(bad), wrong(7, 2));
    assert_eq!(bench.unlock(bad), wrong(6, 1));
    assert_eq!(bench.unlock(bad), wrong(5, 0));
    assert_eq!(
        bench.unlock(PIN),
        refused(LinkError::TriesOfPowerCycleSpent),
        "even the right one"
    );
    assert!(bench.power_cycle());
    assert_eq!(bench.unlock(bad), wrong(4, 2));
    assert_eq!(bench.unlock(bad), wrong(3, 1));
    assert_eq!(
        bench.env.control().asked,
        [TouchReason::Init],
        "no press so far"
    );
    bench.env.control().finger = Touch::TimedOut;
    assert_eq!(bench.unlock(PIN), refused(LinkError::NoTouch));
    assert_eq!(
        tries(&mut bench),
        (3, 1),
        "a press that does not come is not charged"
    );
    bench.env.control().finger = Touch::Pressed;
    assert_eq!(bench.unlock(bad), wrong(2, 0));
    assert!(bench.power_cycle());
    assert_eq!(bench.unlock(bad), wrong(1, 1));
    let before = bench.hello().unwrap();
    assert_eq!(bench.unlock(bad), refused(LinkError::TriesSpent));
    let hello = bench.hello().unwrap();
    assert_eq!(hello.lifecycle, Lifecycle::Blank);
    assert_ne!((hello.token_id, hello.salt), (before.token_id, before.salt));
    assert!(
        bench
            .flash
            .snapshot()
            .dump()
            .iter()
            .all(|byte| *byte == 0xFF),
        "nothing is left"
    );
    assert_eq!(bench.unlock(PIN), refused(LinkError::Blank));
    bench.init(PIN).unwrap();
}

#[cfg_attr(test, test)]
pub(crate) fn the_right_pin_gives_the_tries_back() {
    let mut bench = ready();
    for _ in 0..2 {
        let _ = bench.unlock(TestPin::new(9));
    }
    assert_eq!(tries(&mut bench), (6, 1));
    bench.unlock(PIN).unwrap();
    assert_eq!(tries(&mut bench), (8, 3));
}

#[cfg_attr(test, test)]
pub(crate) fn a_caller_who_reads_message_2_and_hangs_up_has_been_charged() {
    let mut bench = ready();
    for left in [(7, 2), (6, 1), (5, 0)] {
        bench
            .begin_unlock(UnlockKind::Unlock, TestPin::new(9))
            .unwrap();
        bench.lock();
        assert_eq!(tries(&mut bench), left);
    }
    assert!(bench.power_cycle());
    assert_eq!(tries(&mut bench), (5, 3), "a restart gives nothing back");
    // A repeat of the same message 1 is answered with the same bytes, and is not charged twice.
    let start = ToToken::UnlockStart {
        init: false,
        sid: Bytes([1; 16]),
        share: Bytes([2; 32]),
        version: TOKEN_VERSION,
    };
    bench.send(&start);
    assert_eq!(
        tries(&mut bench),
        (4, 2),
        "an undecodable share is charged as well"
    );
    let (_, reply) = bench.begin_unlock(UnlockKind::Unlock, PIN).unwrap();
    assert!(matches!(
        codec::decode::<FromToken<'_>>(&reply).unwrap(),
        FromToken::UnlockAnswer { .. }
    ));
}

#[cfg_attr(test, test)]
pub(crate) fn with_the_right_password_but_another_wrapping_key_the_try_stays_charged() {
    let mut bench = ready();
    let half = TestPin {
        prs: PIN.prs,
        wrap: [0; 32],
    };
    assert_eq!(bench.unlock(half), wrong(7, 2));
    assert!(!bench.is_unlocked());
}

#[cfg_attr(test, test)]
pub(crate) fn after_eight_hung_up_tries_the_next_start_erases() {
    let mut bench = ready();
    for _ in 0..8 {
        if tries(&mut bench).1 == 0 {
            assert!(bench.power_cycle());
        }
        bench
            .begin_unlock(UnlockKind::Unlock, TestPin::new(9))
            .unwrap();
    }
    assert!(bench.power_cycle());
    assert_eq!(bench.hello().unwrap().lifecycle, Lifecycle::Blank);
    assert!(
        bench
            .flash
            .snapshot()
            .dump()
            .iter()
            .all(|byte| *byte == 0xFF)
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_software_token_counts_no_tries() {
    let mut bench = ready();
    bench.env.control().wipes = false;
    for _ in 0..20 {
        assert_eq!(bench.unlock(TestPin::new(9)), wrong(255, 255));
    }
    bench.unlock(PIN).unwrap();
    assert_eq!(tries(&mut bench), (255, 255));
}

#[cfg_attr(test, test)]
pub(crate) fn another_version_is_refused_uncharged() {
    let mut bench = ready();
    let start = ToToken::UnlockStart {
        init: false,
        sid: Bytes([1; 16]),
        share: Bytes([2; 32]),
        version: 9,
    };
    let reply = bench.send(&start);
    assert_eq!(
        codec::decode::<FromToken<'_>>(&reply),
        Ok(FromToken::Refused(LinkError::Version))
    );
    assert_eq!(tries(&mut bench), (8, 3));
}

#[cfg_attr(test, test)]
pub(crate) fn an_initialisation_needs_a_blank_token_and_a_press() {
    let mut bench = Bench::blank(1);
    assert_eq!(bench.unlock(PIN), refused(LinkError::Blank));
    bench.env.control().finger = Touch::TimedOut;
    assert_eq!(bench.init(PIN), refused(LinkError::NoTouch));
    bench.env.control().finger = Touch::Pressed;
    bench.init(PIN).unwrap();
    assert_eq!(bench.init(TestPin::new(3)), refused(LinkError::NotBlank));
    assert!(bench.is_unlocked(), "the refusal does not lock");
}

#[cfg_attr(test, test)]
pub(crate) fn without_randomness_no_keys_are_made() {
    let mut bench = Bench::blank(1);
    bench.env.control().healthy = false;
    assert_eq!(bench.init(PIN), refused(LinkError::Random));
    bench.env.control().healthy = true;
    bench.init(PIN).unwrap();
    bench.env.control().healthy = false;
    assert!(matches!(
        bench.call(&Command::Random),
        Ok(Reply::Failed(TokenError::Random))
    ));
    bench.lock();
    assert_eq!(bench.unlock(PIN), refused(LinkError::Random));
    assert_eq!(tries(&mut bench), (8, 3));
}

#[cfg_attr(test, test)]
pub(crate) fn a_changed_pin_opens_and_the_old_one_does_not() {
    let mut a = Person::new("alice", 1);
    let identity = a.identity();
    let new = TestPin::new(5);
    let change = |wrap: [u8; 32]| Command::ChangePin {
        wrap: Bytes(wrap),
        new_salt: Bytes([0x77; 16]),
        new_prs: Bytes(new.prs),
        new_wrap: Bytes(new.wrap),
    };
    let before = a.bench.hello().unwrap();
    assert_eq!(a.bench.done(&change([0; 32])), failed(TokenError::WrongPin));
    a.bench.env.control().finger = Touch::TimedOut;
    assert_eq!(a.bench.done(&change(PIN.wrap)), failed(TokenError::NoTouch));
    a.bench.env.control().finger = Touch::Pressed;
    a.bench.done(&change(PIN.wrap)).unwrap();
    assert_eq!(a.identity(), identity, "the channel stays");
    let after = a.bench.hello().unwrap();
    assert_eq!(
        (after.token_id, after.salt),
        (before.token_id, Bytes([0x77; 16]))
    );
    a.bench.lock();
    assert!(a.bench.unlock(PIN).is_err());
    a.bench.unlock(new).unwrap();
    assert_eq!(a.identity(), identity);
}

#[cfg_attr(test, test)]
pub(crate) fn a_wipe_and_a_reset_need_a_press_and_leave_nothing() {
    for by_command in [true, false] {
        let mut bench = ready();
        bench.unlock(PIN).unwrap();
        bench.env.control().finger = Touch::Cancelled;
        if by_command {
            assert_eq!(bench.done(&Command::Wipe), failed(TokenError::Cancelled));
        } else {
            assert_eq!(bench.reset(), refused(LinkError::Cancelled));
        }
        assert!(bench.is_unlocked());
        bench.env.control().finger = Touch::Pressed;
        if by_command {
            bench.done(&Command::Wipe).unwrap();
        } else {
            bench.reset().unwrap();
        }
        assert!(!bench.is_unlocked());
        assert_eq!(bench.hello().unwrap().lifecycle, Lifecycle::Blank);
        assert!(
            bench
                .flash
                .snapshot()
                .dump()
                .iter()
                .all(|byte| *byte == 0xFF)
        );
        bench.init(TestPin::new(4)).unwrap();
    }
}

#[cfg_attr(test, test)]
pub(crate) fn lock_command_idle_time_and_a_lost_host_forget_the_keys() {
    let mut bench = ready();
    bench.unlock(PIN).unwrap();
    bench.done(&Command::Lock).unwrap();
    assert!(!bench.is_unlocked());
    assert_eq!(
        bench.done(&Command::Status),
        Err(Refusal::Silence(Silence::Refused(LinkError::Locked)))
    );
    bench.unlock(PIN).unwrap();
    bench.env.control().idle_lock_ms = Some(1000);
    bench.env.control().now.ms += 1000;
    assert!(matches!(bench.call(&Command::Status), Ok(Reply::Status(_))));
    bench.env.control().now.ms += 1001;
    assert_eq!(
        bench.done(&Command::Status),
        Err(Refusal::Silence(Silence::Refused(LinkError::Locked)))
    );
    bench.unlock(PIN).unwrap();
    bench.env.control().now.ms += 1001;
    assert!(bench.is_unlocked());
    bench.look_at_the_clock();
    assert!(!bench.is_unlocked(), "without waiting for a request");
    bench.unlock(PIN).unwrap();
    bench.lock();
    assert!(!bench.is_unlocked());
}

#[cfg_attr(test, test)]
pub(crate) fn a_new_channel_replaces_the_old_one_only_when_it_is_complete() {
    let mut bench = ready();
    bench.unlock(PIN).unwrap();
    bench
        .begin_unlock(UnlockKind::Unlock, TestPin::new(9))
        .unwrap();
    assert!(
        matches!(bench.call(&Command::Status), Ok(Reply::Status(_))),
        "the old one goes on"
    );
    let old = bench.seal_command(&Command::Status);
    bench.unlock(PIN).unwrap();
    let reply = bench.send_raw(&old);
    assert_eq!(
        codec::decode::<FromToken<'_>>(&reply),
        Ok(FromToken::Refused(LinkError::BadRequest))
    );
    assert!(matches!(bench.call(&Command::Status), Ok(Reply::Status(_))));
}

#[cfg_attr(test, test)]
pub(crate) fn altered_skipped_and_stale_frames_are_refused_and_change_nothing() {
    let mut bench = ready();
    bench.unlock(PIN).unwrap();
    let good = bench.seal_command(&Command::Status);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let reply = bench.send_raw(&bad);
        assert!(
            matches!(
                codec::decode::<FromToken<'_>>(&reply),
                Ok(FromToken::Refused(_))
            ),
            "byte {at}"
        );
    }
    let ahead = bench.seal_command(&Command::Status);
    let reply = bench.send_raw(&ahead);
    assert_eq!(
        codec::decode::<FromToken<'_>>(&reply),
        Ok(FromToken::Refused(LinkError::BadRequest))
    );
    let reply = bench.send_raw(&good);
    assert!(matches!(bench.open_reply(&reply), Ok(Reply::Status(_))));
    assert_eq!(tries(&mut bench), (8, 3));
}

#[cfg_attr(test, test)]
pub(crate) fn a_token_set_to_ask_for_everything_asks_once_and_not_for_upkeep_or_listings() {
    let (mut a, mut b) = paired();
    let envelope = b.seal(&a.address, b"for later").unwrap();
    a.bench.env.control().presence = PresencePolicy::Everything;
    a.bench.env.control().asked.clear();
    let read = a.open(&envelope, false).unwrap();
    assert_eq!(a.bench.env.control().asked, [TouchReason::EveryCommand]);

    // What a host does while nobody is near.
    a.bench.env.control().finger = Touch::TimedOut;
    let generation = Generation {
        number: 1,
        random: Bytes([1; 16]),
    };
    let new_prekey = |kind| Command::NewPrekey { kind, now: TODAY };
    for command in [
        Command::Commit { hash: read.hash },
        Command::Discard,
        Command::Status,
        Command::Log,
        Command::NextContact { after: None },
        Command::Sessions {
            peer: b.address.clone(),
        },
        Command::FindContact {
            session: Bytes([0; 16]),
        },
        new_prekey(PrekeyKind::LastResort),
        new_prekey(PrekeyKind::OneTime),
        Command::Prekeys,
        Command::ForgetPrekey { id: 2 },
        Command::DropPrekeys,
        Command::Generations,
        Command::PlanGeneration { next: generation },
        Command::AdoptGeneration {
            current: generation,
            supersede: false,
        },
    ] {
        let done = !matches!(a.bench.call(&command), Ok(Reply::Failed(_)) | Err(_));
        assert!(done, "{command:?}");
    }
    assert_eq!(a.bench.env.control().asked.len(), 1);

    assert_eq!(a.seal(&b.address, b"alone"), failed(TokenError::NoTouch));
    for command in [
        Command::StorageKey,
        Command::Identity,
        Command::Random,
        Command::Forget {
            peer: b.address.clone(),
        },
    ] {
        assert_eq!(
            a.bench.done(&command),
            failed(TokenError::NoTouch),
            "{command:?}"
        );
    }
    a.bench.env.control().finger = Touch::Pressed;
    a.bench.env.control().asked.clear();
    a.bench.done(&Command::Wipe).unwrap();
    assert_eq!(
        a.bench.env.control().asked,
        [TouchReason::EveryCommand],
        "one press per request"
    );
}

#[cfg_attr(test, test)]
pub(crate) fn nonsense_is_refused() {
    let mut bench = ready();
    for request in [&[][..], &[0, 0], &[99], &[0xFF; 300], &[6; 7000]] {
        let reply = bench.send_raw(request);
        assert_eq!(
            codec::decode::<FromToken<'_>>(&reply),
            Ok(FromToken::Refused(LinkError::BadRequest))
        );
    }
    assert!(bench.send(&ToToken::Cancel).is_empty());
    let finish = ToToken::UnlockFinish {
        tag: Bytes([0; 32]),
        body: &[0; 48],
    };
    let reply = bench.send(&finish);
    assert_eq!(
        codec::decode::<FromToken<'_>>(&reply),
        Ok(FromToken::Refused(LinkError::BadRequest))
    );
}
