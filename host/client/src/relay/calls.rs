//! What a client asks of a relay, one method for each call.

use hostchat_core::wire::relay::{Answer, Call, Kind};
use hostchat_core::wire::{
    Address, Generation, IdentityClaim, MessageId, Name, Prekey, PrekeyBundle,
};

use super::Connection;
use crate::error::{Error, Result};
use crate::token::Prekeys;

impl Connection {
    /// Leaves a prekey.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn put_prekey(&self, prekey: Prekey) -> Result<()> {
        self.call(&Call::PutPrekey(prekey), done).await
    }

    /// Asks which own prekeys lie there.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn prekeys(&self) -> Result<Prekeys> {
        self.call(&Call::Prekeys, |answer| match answer {
            Answer::Prekeys {
                one_time,
                last_resort,
            } => Some(Prekeys {
                one_time: one_time.to_vec(),
                last_resort,
                older: Vec::new(),
            }),
            _ => None,
        })
        .await
    }

    /// Deletes the own one-time prekeys there.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn drop_prekeys(&self) -> Result<()> {
        self.call(&Call::DropPrekeys, done).await
    }

    /// Compare and set of the own generation: `None` if it is `to` now, else the pair that is there.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn set_generation(
        &self,
        from: Generation,
        to: Generation,
    ) -> Result<Option<Generation>> {
        self.call(&Call::Generation { from, to }, |answer| match answer {
            Answer::Done => Some(None),
            Answer::Generation(there) => Some(Some(there)),
            _ => None,
        })
        .await
    }

    /// As [`Self::take_prekeys`], without a one-time prekey.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn take_last_resort(&self, name: Name) -> Result<PrekeyBundle> {
        self.call(&Call::TakeLastResort(name), |answer| match answer {
            Answer::Bundle(bundle) => Some(bundle),
            _ => None,
        })
        .await
    }

    /// The identity that the relay binds to a name; not checked.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn look_up(&self, name: Name) -> Result<IdentityClaim> {
        self.call(&Call::LookUp(name), |answer| match answer {
            Answer::Binding(identity) => Some(identity),
            _ => None,
        })
        .await
    }

    /// Prekeys of a name; not checked.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn take_prekeys(&self, name: Name) -> Result<PrekeyBundle> {
        self.call(&Call::TakePrekeys(name), |answer| match answer {
            Answer::Bundle(bundle) => Some(bundle),
            _ => None,
        })
        .await
    }

    /// Leaves an envelope in a mailbox; `Ok` means that it is durable there.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn send(
        &self,
        to: Name,
        message_id: MessageId,
        kind: Kind,
        body: &[u8],
    ) -> Result<()> {
        self.call(
            &Call::Send {
                to,
                message_id,
                kind,
                body,
            },
            |answer| match answer {
                Answer::Stored => Some(()),
                _ => None,
            },
        )
        .await
    }

    /// Starts deliveries.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn receive(&self) -> Result<()> {
        self.call(&Call::Receive, done).await
    }

    /// All names connected now, in order.
    ///
    /// # Errors
    /// Those of [`Connection::call`]; `RelayProtocol` if the pages do not end or are not in order.
    pub async fn who(&self) -> Result<Vec<Name>> {
        self.pages(
            MAX_ONLINE,
            Name::as_str,
            |after| Call::Who { after },
            |answer| match answer {
                Answer::Online { names, more } => Some((
                    names.iter().map(|name| Name::parse(name).ok()).collect(),
                    more,
                )),
                _ => None,
            },
        )
        .await
    }

    /// Asks for an answer and nothing else.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn ping(&self) -> Result<()> {
        self.call(&Call::Ping, done).await
    }

    /// For how many days the relay keeps who wrote to whom; 0 if it does not.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn log_days(&self) -> Result<u16> {
        self.call(&Call::Policy, |answer| match answer {
            Answer::Policy { log_days } => Some(log_days),
            _ => None,
        })
        .await
    }

    /// Turns the own visibility on or off.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn set_visible(&self, visible: bool) -> Result<()> {
        self.call(&Call::SetVisible(visible), done).await
    }

    /// Takes nothing more from an address into the own mailbox, or does so again.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn set_blocked(&self, who: Address, blocked: bool) -> Result<()> {
        self.call(&Call::SetBlocked { who, blocked }, done).await
    }

    /// All addresses from which the own mailbox takes nothing, in order.
    ///
    /// # Errors
    /// Those of [`Connection::call`]; `RelayProtocol` if the pages do not end or are not in order.
    pub async fn blocked(&self) -> Result<Vec<Address>> {
        self.pages(
            MAX_BLOCKED,
            Address::as_str,
            |after| Call::Blocked { after },
            |answer| match answer {
                Answer::Blocked { addresses, more } => {
                    let addresses = addresses.iter().map(|text| Address::parse(text).ok());
                    Some((addresses.collect(), more))
                }
                _ => None,
            },
        )
        .await
    }

    /// A list that comes in pages, each asked for by the last entry before it; it ends after `most` entries at the latest.
    async fn pages<T: PartialOrd>(
        &self,
        most: usize,
        text: fn(&T) -> &str,
        ask: for<'a> fn(&'a str) -> Call<'a>,
        pick: fn(Answer<'_>) -> Option<Page<T>>,
    ) -> Result<Vec<T>> {
        let broke = |why| Error::RelayProtocol {
            relay: self.relay().to_string(),
            why,
        };
        let mut all: Vec<T> = Vec::new();
        loop {
            let after = all.last().map_or("", text).to_owned();
            let (page, more) = self.call(&ask(&after), pick).await?;
            let page = page.ok_or_else(|| broke("a list with an entry that cannot be read"))?;
            if !goes_on(&all, &page, more) || all.len() > most {
                return Err(broke("a list that is not in order or does not end"));
            }
            all.extend(page);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Deletes the own account at the relay.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub async fn delete_account(&self) -> Result<()> {
        self.call(&Call::DeleteAccount, done).await
    }
}

/// Most names that are listed: a relay cannot fill memory with them.
const MAX_ONLINE: usize = 100_000;
/// Most addresses that are listed: some forty times what our relay keeps of one account.
const MAX_BLOCKED: usize = 10_000;

/// Entries, or none if one of them cannot be read, and whether there are more.
type Page<T> = (Option<Vec<T>>, bool);

/// Whether a page continues a list in order, and holds something if another one is to follow.
fn goes_on<T: PartialOrd>(all: &[T], page: &[T], more: bool) -> bool {
    let in_order = all
        .last()
        .into_iter()
        .chain(page)
        .is_sorted_by(|a, b| a < b);
    in_order && (!page.is_empty() || !more)
}

fn done(answer: Answer<'_>) -> Option<()> {
    matches!(answer, Answer::Done).then_some(())
}
