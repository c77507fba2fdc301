//! Whole conversations between real processes.
#![expect(clippy::expect_used, clippy::panic, reason = "tests")]
