//! Any sequence of requests to one token, locked and unlocked, with a finger, a clock and a random generator that behave as
//! the input says.
//!
//! Invariants: every request but `Cancel` gets one reply that decodes, of the kind that belongs to it; nothing is
//! carried out without the channel; what needs a press and got none shows nothing; a failed command shows its error and
//! nothing else, and what is not charged writes nothing.

use hostchat_core::icd::{
    Command, FromToken, LinkError, MAX_LINK, Reply, ToToken, TokenError, UnlockKind,
};
use hostchat_core::wire::{
    Account, Address, Bytes, Envelope, Generation, Name, PrekeyKind, RelayName, codec,
};
use hostchat_token::env::{PresencePolicy, Touch};
use hostchat_token::testing::{Bench, RamFlash, Silence, TestEnv, TestPin};

use crate::input::Input;
use crate::tokens::{Acquainted, PIN, TODAY, acquainted, address};

/// Most requests of one run.
const MAX_STEPS: usize = 80;

struct Run {
    bench: Bench,
    made: Acquainted,
    /// What the token gave away and may get back: envelopes, offers, answers.
    pool: Vec<Vec<u8>>,
    hash: Bytes<32>,
    code: Bytes<6>,
}

/// Interprets the input: a byte for the token's state at the beginning, then one for each request, and its fields.
pub fn run(bytes: &[u8]) {
    let made = acquainted();
    assert!(made.is_ok(), "no pairing: {:?}", made.as_ref().err());
    let Ok(made) = made else { return };
    let mut input = Input::new(bytes);
    let begin = input.byte();
    let flash = if begin.is_multiple_of(4) {
        RamFlash::new(40)
    } else {
        made.flashes[0].clone()
    };
    let mut bench = Bench::new(flash, TestEnv::new(21));
    {
        let mut control = bench.env.control();
        control.wipes = begin & 0x10 == 0;
        control.idle_lock_ms = (begin & 0x20 != 0).then_some(60_000);
        if begin & 0xC0 == 0xC0 {
            control.presence = PresencePolicy::Everything;
        }
    }
    if begin % 4 > 1 {
        assert_eq!(bench.unlock(PIN), Ok(()));
    }
    let mut run = Run {
        bench,
        pool: vec![made.stranger.clone()],
        made,
        hash: Bytes([0; 32]),
        code: Bytes(*b"123456"),
    };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        run.act(&mut input);
    }
}

impl Run {
    fn act(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            0..16 => {
                let length = usize::from(input.byte());
                let request = input.bytes(length);
                self.request(request);
            }
            16..40 => self.link(input),
            40..56 => self.unlock(input),
            56..60 => {
                assert!(self.bench.power_cycle(), "it does not start");
            }
            60..62 => self.bench.lock(),
            62..70 => {
                self.bench.env.control().now.ms += u64::from(input.number()) * 10;
                self.bench.look_at_the_clock();
            }
            70..78 => {
                self.bench.env.control().finger = match input.byte() % 3 {
                    0 => Touch::Pressed,
                    1 => Touch::TimedOut,
                    _ => Touch::Cancelled,
                };
            }
            78..80 => {
                let healthy = input.flag();
                self.bench.env.control().healthy = healthy;
            }
            80..90 => {
                let length = usize::from(input.byte());
                let plain = input.bytes(length);
                let request = self.bench.seal_bytes(plain);
                self.sealed(&request, None);
            }
            _ => self.command(input),
        }
    }

    /// Sends anything, and checks the reply against it.
    fn request(&mut self, request: &[u8]) {
        let unlocked = self.bench.is_unlocked();
        let asked = self.bench.env.control().asked.len();
        let before = self.bench.flash.lock().operations();
        let reply = self.bench.send_raw(request);
        let written = self.bench.flash.lock().operations() - before;
        let pressed = self.bench.env.control().asked.len() > asked
            && self.bench.env.control().finger == Touch::Pressed;
        let message = codec::decode::<ToToken<'_>>(request);
        if matches!(message, Ok(ToToken::Cancel)) {
            assert!(reply.is_empty(), "a cancel is answered");
            return;
        }
        let answer = codec::decode::<FromToken<'_>>(&reply);
        assert!(answer.is_ok(), "a reply does not decode: {reply:?}");
        let Ok(answer) = answer else { return };
        let fits = match (&message, &answer) {
            (Err(_), answer) => *answer == FromToken::Refused(LinkError::BadRequest),
            (Ok(_), FromToken::Refused(_)) => true,
            (Ok(ToToken::Hello), FromToken::Hello(_)) => true,
            (Ok(ToToken::Reset), FromToken::Done) => pressed,
            (Ok(ToToken::UnlockStart { init, .. }), FromToken::UnlockAnswer { .. }) => {
                !init || pressed
            }
            (Ok(ToToken::UnlockFinish { .. }), FromToken::Sealed { counter, .. }) => *counter == 0,
            (Ok(ToToken::Sealed { counter, .. }), FromToken::Sealed { counter: own, .. }) => {
                unlocked && counter == own
            }
            _ => false,
        };
        assert!(fits, "{message:?} is answered {answer:?}");
        let charged = matches!(
            message,
            Ok(ToToken::UnlockStart { .. } | ToToken::UnlockFinish { .. } | ToToken::Reset)
        );
        if !charged && matches!(answer, FromToken::Refused(_) | FromToken::Hello(_)) {
            assert_eq!(written, 0, "a refused request wrote");
        }
    }

    /// A message outside the channel, with any fields.
    fn link(&mut self, input: &mut Input<'_>) {
        let message = match input.byte() % 6 {
            0 => ToToken::Hello,
            1 => ToToken::UnlockStart {
                init: input.flag(),
                sid: Bytes(input.array()),
                share: Bytes(input.array()),
                version: input.byte() % 4,
            },
            2 => ToToken::UnlockFinish {
                tag: Bytes(input.array()),
                body: input.bytes(80),
            },
            3 => ToToken::Sealed {
                counter: u64::from(input.byte()),
                body: input.bytes(40),
            },
            4 => ToToken::Cancel,
            _ => ToToken::Reset,
        };
        let request = codec::encode_vec::<_, MAX_LINK>(&message).unwrap_or_default();
        self.request(&request);
    }

    /// A host with a right or a wrong PIN.
    fn unlock(&mut self, input: &mut Input<'_>) {
        let pin = match input.byte() % 4 {
            0 => TestPin::new(9),
            _ => PIN,
        };
        if input.flag() {
            // Only its first half: the run stays open.
            let _ = self.bench.begin_unlock(UnlockKind::Unlock, pin);
            return;
        }
        let ready = self.bench.hello();
        let done = match ready.map(|hello| hello.lifecycle) {
            Ok(hostchat_core::icd::Lifecycle::Blank) => self.bench.init(pin),
            _ => self.bench.unlock(pin),
        };
        match done {
            Ok(()) => assert!(self.bench.is_unlocked()),
            Err(silence) => assert!(
                matches!(silence, Silence::Refused(_)),
                "an unlock ends in {silence:?}"
            ),
        }
    }

    /// Sends a sealed request and checks the reply inside the channel.
    fn sealed(&mut self, request: &[u8], command: Option<&Command<'_>>) {
        let unlocked = self.bench.is_unlocked();
        let asked = self.bench.env.control().asked.len();
        let before = self.bench.flash.lock().operations();
        let sealed = self.bench.send_raw(request);
        let written = self.bench.flash.lock().operations() - before;
        let pressed = self.bench.env.control().asked.len() > asked
            && self.bench.env.control().finger == Touch::Pressed;
        let everything = self.bench.env.control().presence == PresencePolicy::Everything;
        if request.is_empty() {
            return;
        }
        let reply = self.bench.open_reply(&sealed);
        let reply = match reply {
            Ok(reply) => reply,
            Err(silence) => {
                // Without a channel at this end, the bench seals nothing that could be opened.
                let refused = matches!(silence, Silence::Refused(_));
                assert!(refused || !unlocked, "{silence:?} to {command:?}");
                assert_eq!(written, 0, "a refused request wrote");
                return;
            }
        };
        assert!(unlocked, "a locked token carries out {command:?}");
        let needs_press = match (command, &reply) {
            (_, Reply::Failed(_)) => false,
            (Some(Command::Wipe | Command::ChangePin { .. }), Reply::Done) => true,
            (_, Reply::Code(_) | Reply::Answered(_)) => true,
            // Upkeep and listings go on without a hand (SPEC section 11).
            (
                Some(
                    Command::Lock
                    | Command::Discard
                    | Command::Commit { .. }
                    | Command::NewPrekey { .. }
                    | Command::DropPrekeys
                    | Command::ForgetPrekey { .. }
                    | Command::Generations
                    | Command::PlanGeneration { .. }
                    | Command::AdoptGeneration { .. }
                    | Command::Status
                    | Command::Prekeys
                    | Command::NextContact { .. }
                    | Command::Sessions { .. }
                    | Command::FindContact { .. }
                    | Command::Log,
                ),
                _,
            ) => false,
            (Some(_), _) => everything,
            (None, _) => false,
        };
        assert!(pressed || !needs_press, "{command:?} without a press");
        match reply {
            Reply::Failed(error) => {
                let short = codec::encode_vec::<_, 8>(&reply).map(|bytes| bytes.len());
                assert!(short.is_ok_and(|length| length <= 4), "{error:?}");
                let charged = matches!(
                    command,
                    None | Some(
                        Command::PairAnswer { .. }
                            | Command::Wipe
                            | Command::ChangePin { .. }
                            | Command::NewPrekey { .. }
                            | Command::Forget { .. }
                    )
                ) || error == TokenError::Storage;
                assert!(charged || written == 0, "{command:?} failed and wrote");
            }
            Reply::Opened(opened) => self.hash = opened.hash,
            Reply::Code(code) => self.code = code,
            Reply::Sealed { envelope, .. } => {
                assert!(written > 0, "a seal that is not durable");
                let envelope = envelope.to_vec();
                self.keep(envelope);
            }
            Reply::Offered(offered) => {
                let offer = Envelope::PairOffer(offered.offer);
                let bytes = codec::encode_vec::<_, MAX_LINK>(&offer).unwrap_or_default();
                self.keep(bytes.to_vec());
            }
            Reply::Answered(answered) => {
                assert!(written > 0, "an answer that is not charged");
                let answer = Envelope::PairAnswer(answered.answer);
                let bytes = codec::encode_vec::<_, MAX_LINK>(&answer).unwrap_or_default();
                self.keep(bytes.to_vec());
            }
            _ => {}
        }
    }

    fn keep(&mut self, bytes: Vec<u8>) {
        if self.pool.len() < 16 {
            self.pool.push(bytes);
        }
    }

    /// A command with fields from the input and from what the token said.
    fn command(&mut self, input: &mut Input<'_>) {
        let own: Address = address(usize::from(input.byte() % 8 == 7));
        let peer = address(usize::from(input.byte() % 3));
        let accept_changed = input.flag();
        let kept = self.pool[input.index(self.pool.len())].clone();
        let mut bytes = kept;
        if input.flag() {
            let at = input.index(bytes.len());
            bytes[at] ^= input.byte();
        }
        let envelope = codec::decode::<Envelope<'_>>(&bytes);
        let bundle = &self.made.bundles[usize::from(input.byte() % 2)];
        let generation = Generation {
            number: u64::from(input.byte()),
            random: Bytes([input.byte(); 16]),
        };
        let short = input.byte();
        let command = match input.byte() % 36 {
            0 => Command::Status,
            1 => Command::Identity,
            2 => Command::ChangePin {
                wrap: Bytes(if short == 0 { [9; 32] } else { PIN.wrap }),
                new_salt: Bytes([short; 16]),
                new_prs: Bytes(PIN.prs),
                new_wrap: Bytes(PIN.wrap),
            },
            3 => Command::Lock,
            4 => Command::Wipe,
            5 => match (Name::parse("alice"), RelayName::parse("relay.example:7443")) {
                (Ok(name), Ok(dialled)) => Command::Login {
                    account: Account::User(name),
                    dialled,
                    challenge: Bytes([short; 32]),
                    exporter: Bytes([0; 32]),
                },
                _ => Command::Status,
            },
            6..8 => Command::NewPrekey {
                kind: if short & 1 == 0 {
                    PrekeyKind::OneTime
                } else {
                    PrekeyKind::LastResort
                },
                now: TODAY + u64::from(short) * 86_400,
            },
            8 => Command::PairBegin {
                own,
                peer,
                accept_changed,
            },
            9 => Command::PairOffer,
            10 => match envelope {
                Ok(Envelope::PairAnswer(answer)) => Command::PairConfirm { answer },
                _ => Command::PairOffer,
            },
            11 => Command::PairEnd,
            12..14 => match envelope {
                Ok(Envelope::PairOffer(offer)) => Command::PairAnswer {
                    own,
                    offer,
                    code: self.code,
                    accept_changed,
                },
                _ => Command::PairOffer,
            },
            14..17 => Command::Start {
                own,
                peer,
                bundle: bundle.clone(),
                now: TODAY + u64::from(short) * 86_400,
                accept_changed,
            },
            17..20 => Command::Seal {
                peer,
                content: &bytes,
            },
            20..25 => Command::Open {
                own,
                envelope: &bytes,
                accept_changed,
            },
            25 => Command::Commit { hash: self.hash },
            26 => Command::Discard,
            27 => Command::NextContact {
                after: (short & 1 == 1).then_some(peer),
            },
            28 => Command::Forget { peer },
            29 => Command::StorageKey,
            30 => Command::Log,
            31 => Command::Generations,
            32 => Command::PlanGeneration { next: generation },
            33 => Command::AdoptGeneration {
                current: generation,
                supersede: accept_changed,
            },
            34 => match short % 3 {
                0 => Command::Prekeys,
                1 => Command::DropPrekeys,
                _ => Command::ForgetPrekey {
                    id: u32::from(short / 3),
                },
            },
            _ => match short % 2 {
                0 => Command::Sessions { peer },
                _ => Command::FindContact {
                    session: Bytes([short; 16]),
                },
            },
        };
        let request = self.bench.seal_command(&command);
        self.sealed(&request, Some(&command));
    }
}
