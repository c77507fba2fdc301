//! What the floors above say to each other: values without keys, files or connections.

pub mod address;
pub mod answer;
pub mod call;
mod contact;
pub mod event;
mod message;
mod note;
mod notice;
mod request;
mod token;

pub use contact::{Contact, Trust};
pub use event::Event;
pub use message::{Direction, IdentityTag, Message, Removed, Sent, What};
pub use note::{Held, Names, Note, Stays, Useless};
pub use notice::Notice;
pub use request::{Asked, Request};
pub use token::{Pin, TokenKind};
