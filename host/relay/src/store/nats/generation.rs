//! The generation of an account's keys: one record, compared and set over all nodes.

use bytes::Bytes;
use hostchat_core::wire::Generation;

use super::super::{AccountId, Advanced, StoreError};
use super::link::Which;
use super::node::{Node, TRIES, contended};
use super::record;

impl Node {
    pub(super) async fn advance(
        &self,
        account: AccountId,
        from: Generation,
        to: Generation,
    ) -> Result<Advanced, StoreError> {
        let subject = self.link.subjects.generation(account);
        for _ in 0..TRIES {
            // Also for what is no change: this node may not know yet what another one has written.
            self.book.catch_up().await?;
            let before = {
                let book = self.book();
                if book.name(account).is_none() {
                    return Ok(Advanced::UnknownName);
                }
                book.generation(account)
            };
            if let Some(outcome) = Advanced::without_a_write(before.there, from, to) {
                return Ok(outcome);
            }
            let headers = record::generation_headers(&to);
            let written = self.write_book(subject.clone(), headers, Bytes::new(), before.revision);
            if !written.await? {
                continue;
            }
            if self.book().name(account).is_none() {
                // Deleted meanwhile, perhaps before the purge.
                self.link.purge(Which::Book, subject).await?;
                self.book().drop_rest(account);
                return Ok(Advanced::UnknownName);
            }
            return Ok(Advanced::Done);
        }
        Err(contended())
    }
}
