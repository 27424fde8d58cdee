//! IDE channel.
