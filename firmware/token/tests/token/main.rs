//! The token as its host sees it: whole conversations, power cuts, random commands, stored images.
//!
//! Counts can be raised: `HOSTCHAT_SEQUENCES` (random command sequences), `HOSTCHAT_CUTS` (1 = every flash operation of
//! every step; the default cuts at each fourth operation of the long steps).

mod contacts;
mod conversation;
mod golden;
mod limits;
mod pin;
mod power;
mod presence;
mod support;
