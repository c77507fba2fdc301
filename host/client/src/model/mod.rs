//! What the floors above say to each other: values without keys, files or connections.

pub mod address;
mod contact;
mod message;
mod notice;
mod request;
mod token;

pub use contact::{Contact, Trust};
pub use message::{Direction, IdentityTag, Message, Removed, Sent, What};
pub use notice::Notice;
pub use request::{Asked, Request};
pub use token::{Pin, TokenKind};
