//! Snapshots: memory, devices and disks of one instant, whatever happens on the way.

mod copies;
mod crash;
mod machine;
mod rig;
mod silent;
