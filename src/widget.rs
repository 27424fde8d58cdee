//! Small things that views share.
