//! Which prekeys a token keeps.

use hostchat_core::icd::{Command, Reply, TokenError};

use super::Token;
use crate::error::{Error, Result};

/// Ids of prekeys whose secrets a token has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptPrekeys {
    /// Not used yet.
    pub one_time: Vec<u32>,
    /// The one in use, and older ones that still open.
    pub last_resort: Vec<u32>,
}

impl Token {
    /// The prekeys that are kept; `None` from a token that does not know the question.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn kept_prekeys(&self) -> Result<Option<KeptPrekeys>> {
        let asked = self
            .call(|driver| {
                driver.command(&Command::Prekeys, |reply| match reply {
                    Reply::Prekeys {
                        one_time,
                        last_resort,
                    } => Some(KeptPrekeys {
                        one_time: one_time.iter().map(|prekey| prekey.id).collect(),
                        last_resort: last_resort.iter().map(|prekey| prekey.id).collect(),
                    }),
                    _ => None,
                })
            })
            .await;
        match asked {
            Err(Error::Token(TokenError::BadRequest)) => Ok(None),
            other => other.map(Some),
        }
    }
}
