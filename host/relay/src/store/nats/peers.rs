//! What nodes tell each other in passing: who receives here now, whom they see, who took how much of a rate.
//!
//! Plain messages, which may be lost. Presence is told as a whole every two seconds, so that the next one repairs it.

use std::sync::Arc;

use futures_util::StreamExt as _;
use hostchat_core::wire::Name;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::super::{AccountId, Outlet, StoreError};
use super::link::{Link, failed};
use crate::rates::Spent;

/// One node's voice to the others.
pub struct Peers {
    link: Arc<Link>,
    subject: String,
}

#[derive(Serialize, Deserialize)]
struct Word {
    node: String,
    says: Says,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Says {
    /// A new receiver of this account is here.
    Receives(i64),
    /// Taken of rates at this node since it last said so.
    Spent(Box<Spent>),
    /// All whom this node sees, of those who let themselves be seen.
    Sees(Vec<String>),
}

impl Peers {
    pub(super) async fn start(
        link: &Arc<Link>,
        outlet: Arc<dyn Outlet>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Arc<Self>, StoreError> {
        let peers = Arc::new(Self {
            subject: format!("{}.peers", link.name),
            link: Arc::clone(link),
        });
        let mut words = link
            .client
            .subscribe(peers.subject.clone())
            .await
            .map_err(failed)?;
        let own = link.node.clone();
        tasks.spawn(async move {
            while let Some(word) = words.next().await {
                match serde_json::from_slice::<Word>(&word.payload) {
                    Ok(word) if word.node == own => {}
                    Ok(Word {
                        says: Says::Receives(account),
                        ..
                    }) => outlet.taken_over(AccountId(account)),
                    Ok(Word {
                        says: Says::Spent(spent),
                        ..
                    }) => outlet.spent_elsewhere(*spent),
                    Ok(Word {
                        node,
                        says: Says::Sees(names),
                    }) => {
                        let names = names.iter().filter_map(|name| Name::parse(name).ok());
                        outlet.seen_elsewhere(&node, names.collect());
                    }
                    Err(error) => tracing::warn!(%error, "a word of a node that is not understood"),
                }
            }
        });
        Ok(peers)
    }

    /// Tells that a new receiver of `account` is here.
    pub async fn receives(&self, account: AccountId) {
        self.say(Says::Receives(account.0)).await;
    }

    /// Tells what was taken of rates here, if there is something to tell.
    pub async fn spent(&self, spent: Spent) {
        if !spent.is_empty() {
            self.say(Says::Spent(Box::new(spent))).await;
        }
    }

    /// Tells whom this node sees.
    pub async fn sees(&self, names: Vec<Name>) {
        let names = names.iter().map(|name| name.as_str().to_owned()).collect();
        self.say(Says::Sees(names)).await;
    }

    async fn say(&self, says: Says) {
        let node = self.link.node.clone();
        let Ok(word) = serde_json::to_vec(&Word { node, says }) else {
            return;
        };
        let said = self
            .link
            .client
            .publish(self.subject.clone(), word.into())
            .await;
        if let Err(error) = said {
            tracing::debug!(error = ?error.to_string(), "the other nodes were not told");
        }
    }
}
