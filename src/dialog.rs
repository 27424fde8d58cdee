//! Dialogs, one a file.
