//! What asks for a press, how often, and for what reason.

use hostchat_core::icd::{Command, TokenError};
use hostchat_core::wire::Bytes;
use hostchat_token::{Touch, TouchReason};

use super::support::{PIN, Person, failed, paired};

#[cfg_attr(test, test)]
pub(crate) fn each_thing_that_needs_a_press_asks_once_and_for_its_reason() {
    let (mut a, b) = paired();
    let mut carol = Person::new("carol", 5);
    a.bench.env.control().asked.clear();
    let code = a.show_code(&carol.address, false).unwrap();
    assert_eq!(a.bench.env.control().asked, [TouchReason::ShowCode]);
    let (offer, _) = a.offer().unwrap();
    carol.bench.env.control().asked.clear();
    let (answer, _) = carol.answer(&offer, code, false).unwrap();
    assert_eq!(carol.bench.env.control().asked, [TouchReason::AnswerCode]);
    a.confirm(&answer).unwrap();
    a.seal(&b.address, b"no press").unwrap();
    assert_eq!(a.bench.env.control().asked.len(), 1);
    // One press serves one request.
    a.bench.env.control().finger = Touch::TimedOut;
    a.bench.env.control().presses.push_back(Touch::Pressed);
    a.show_code(&carol.address, false).unwrap();
    assert_eq!(
        a.show_code(&carol.address, false),
        failed(TokenError::NoTouch)
    );
    let change = Command::ChangePin {
        wrap: Bytes(PIN.wrap),
        new_salt: Bytes([3; 16]),
        new_prs: Bytes([4; 32]),
        new_wrap: Bytes([5; 32]),
    };
    a.bench.env.control().finger = Touch::Pressed;
    a.bench.done(&change).unwrap();
    a.bench.done(&Command::Wipe).unwrap();
    let asked = a.bench.env.control().asked.clone();
    assert_eq!(
        asked[asked.len() - 2..],
        [TouchReason::ChangePin, TouchReason::Wipe]
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_repeated_request_does_not_use_a_press_again() {
    let (mut a, b) = paired();
    let begin = Command::PairBegin {
        own: a.address.clone(),
        peer: b.address.clone(),
        accept_changed: false,
    };
    let request = a.bench.seal_command(&begin);
    let first = a.bench.send_raw(&request);
    let asked = a.bench.env.control().asked.len();
    assert_eq!(a.bench.send_raw(&request), first);
    assert_eq!(a.bench.env.control().asked.len(), asked);
}
