//! Whom an account blocks: one record with the whole list, replaced by each change.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::{AccountId, Block, StoreError};
use super::link::Which;
use super::node::{Node, TRIES, contended};
use super::record;
use crate::limits::BLOCKED;

impl Node {
    pub(super) async fn block(
        &self,
        account: AccountId,
        sender: &str,
    ) -> Result<Block, StoreError> {
        let mut too_many = false;
        let exists = self.change_blocks(account, |list| {
            too_many = list.len() >= BLOCKED && !list.contains(sender);
            if !too_many {
                list.insert(sender.to_owned());
            }
        });
        Ok(match exists.await? {
            false => Block::UnknownName,
            true if too_many => Block::TooMany,
            true => Block::Done,
        })
    }

    pub(super) async fn unblock(
        &self,
        account: AccountId,
        senders: &[String],
    ) -> Result<(), StoreError> {
        let change = |list: &mut BTreeSet<String>| list.retain(|sender| !senders.contains(sender));
        self.change_blocks(account, change).await.map(|_| ())
    }

    /// Replaces a list by what `change` makes of it; `false` if there is no such account.
    async fn change_blocks(
        &self,
        account: AccountId,
        mut change: impl FnMut(&mut BTreeSet<String>),
    ) -> Result<bool, StoreError> {
        let subject = self.link.subjects.blocks(account);
        for _ in 0..TRIES {
            // Also for a change that is none: this node may not know yet what another one has written.
            self.book.catch_up().await?;
            let before = {
                let book = self.book();
                if book.name(account).is_none() {
                    return Ok(false);
                }
                book.blocks(account).cloned().unwrap_or_default()
            };
            let mut senders = before.senders.clone();
            change(&mut senders);
            if senders == before.senders {
                return Ok(true);
            }
            let headers = record::blocks_headers(&senders);
            let written = self.write_book(subject.clone(), headers, Bytes::new(), before.revision);
            if !written.await? {
                continue;
            }
            if self.book().name(account).is_none() {
                // Deleted meanwhile, perhaps before the purge.
                self.link.purge(Which::Book, subject).await?;
                self.book().drop_rest(account);
                return Ok(false);
            }
            return Ok(true);
        }
        Err(contended())
    }
}
