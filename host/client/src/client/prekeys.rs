//! Prekeys: what lies at the home relay so that others can write first.

use hostchat_core::icd::TokenError;
use hostchat_core::wire::PrekeyKind;

use super::Client;
use crate::crash;
use crate::error::{Error, Result};

/// One-time prekeys wanted at the relay.
const ONE_TIME: u16 = 16;
/// The last-resort key is replaced after a week.
const LAST_RESORT_S: u64 = 7 * 24 * 3600;

impl Client {
    /// Brings the prekeys at the home relay up to date; ends early when the user wants to stop.
    ///
    /// # Errors
    /// Those of relay, token and vault.
    pub async fn refill_prekeys(&mut self) -> Result<()> {
        self.put_prekeys().await?;
        let home = self.home_relay();
        let stock = self.at(&home).await?.prekey_stock().await?;
        let own = self.token.status().await?.last_resort_id;
        let old = stock.last_resort_issued.saturating_add(LAST_RESORT_S) <= self.os.now_s();
        // A clock that was wrong when the key was made.
        let from_future = stock.last_resort_issued > self.os.now_s().saturating_add(LAST_RESORT_S);
        if stock.last_resort_id == 0 || stock.last_resort_id != own || old || from_future {
            self.new_prekey(PrekeyKind::LastResort).await?;
        }
        for _ in stock.one_time..ONE_TIME {
            if self.stop.is_wished() {
                return Ok(());
            }
            match self.new_prekey(PrekeyKind::OneTime).await {
                // Some were given out and not used yet.
                Err(Error::Token(TokenError::PrekeysFull)) => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Makes one and leaves it at the relay.
    pub(super) async fn new_prekey(&mut self, kind: PrekeyKind) -> Result<()> {
        let prekey = self.token.new_prekey(kind).await?;
        crash::point("prekey-made");
        self.vault.add_prekey(&prekey)?;
        crash::point("prekey-stored");
        self.put_prekeys().await
    }

    /// Leaves those at the relay that it does not have.
    async fn put_prekeys(&mut self) -> Result<()> {
        let home = self.home_relay();
        for (id, prekey) in self.vault.prekeys()? {
            self.at(&home).await?.put_prekey(prekey).await?;
            self.vault.drop_prekey(id)?;
        }
        Ok(())
    }
}
