//! Whole conversations between real processes.
#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod conversation;
mod support;
