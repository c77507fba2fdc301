//! The records on NATS for fuzzing: what is read from one is written and read again the same.

use async_nats::HeaderMap;

use super::blob_view::{BlobRecord, Head};
use super::record::{Book, Mail, Subjects, blocks_headers};

/// Reads a record of every stream. Gives the number of streams that know it.
///
/// # Panics
/// If a record that was read is another one after it was written and read again.
pub fn read(subject: &str, headers: &[(&str, &str)]) -> usize {
    let subjects = Subjects::new("r");
    let map = map_of(headers);
    let mail = subjects.read_mail(subject, &map);
    if let Some(Mail::Message {
        account,
        sender_key,
        id,
        ..
    }) = &mail
    {
        let again = subjects.message(*account, sender_key, id);
        let read = subjects.read_mail(&again, &map);
        assert!(
            matches!(&read, Some(Mail::Message { account: a, sender_key: s, id: i, .. })
                if (a, s, i) == (account, sender_key, id)),
            "{subject} is {again}"
        );
    }
    let book = subjects.read_book(subject, &map);
    match &book {
        Some(Book::Account {
            name,
            account: Ok(account),
        }) => {
            let read = subjects.read_book(&subjects.account(name), &account.headers());
            assert!(
                matches!(&read, Some(Book::Account { name: n, account: Ok(a) })
                    if n == name && (a.id, a.identity, a.visible) == (account.id, account.identity, account.visible)),
                "the account {name} does not come back"
            );
        }
        Some(Book::Blocks { account, senders }) => {
            let read = subjects.read_book(&subjects.blocks(*account), &blocks_headers(senders));
            assert!(
                matches!(&read, Some(Book::Blocks { senders: s, .. }) if s == senders),
                "a block list does not come back"
            );
        }
        _ => {}
    }
    let blob = subjects.read_blob(subject, &map);
    match &blob {
        Some(BlobRecord::Head(_, head)) => {
            assert!(Head::read(&head.headers()).as_ref() == Some(head));
        }
        Some(BlobRecord::Part { of, make, index }) => {
            let again = subjects.blob_part(*of, *make, *index);
            let read = subjects.read_blob(&again, &map);
            assert!(
                matches!(&read, Some(BlobRecord::Part { of: o, make: m, index: i })
                    if (o, m, i) == (of, make, index)),
                "{subject} is {again}"
            );
        }
        _ => {}
    }
    let log = subjects.read_log(subject);
    if let Some((sender, receiver)) = &log {
        let again = subjects.log_entry(Some(sender), Some(receiver), "1-00");
        assert_eq!(subjects.read_log(&again), log, "{subject} is {again}");
    }
    let known = [
        mail.is_some(),
        book.is_some(),
        blob.is_some(),
        log.is_some(),
    ];
    known.into_iter().filter(|known| *known).count()
}

/// Headers as a server sends them: what cannot stand in a header does not get here.
fn map_of(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: Result<async_nats::HeaderName, _> = name.parse();
        let value: Result<async_nats::HeaderValue, _> = value.parse();
        if let (Ok(name), Ok(value)) = (name, value) {
            map.insert(name, value);
        }
    }
    map
}
