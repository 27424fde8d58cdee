//! Small things that views share, one a file.

pub mod banner;
pub mod button;
pub mod machine_form;
pub mod path_field;
pub mod progress;
pub mod snapshot_tree;
pub mod state_dot;
