//! Hako from outside: whole guests, headless over QMP and in the window under a display of the test's own.
//!
//! Every wait is for something that is seen, with a deadline; nothing sleeps and hopes. Guests come from
//! `packaging/fetch-guests.sh` (`HAKO_GUESTS`) and from `shared/guests` above the project (`HAKO_SHARED`). `HAKO_LONG` adds the tests that
//! take minutes; headless machines run on the engine that `HAKO_ACCEL` names, else on the default one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod boot_sector;
mod command_line;
mod debian;
mod desktop;
mod dos;
mod endurance;
mod engines;
mod files;
mod firmware;
mod graphics;
mod grub;
mod guest;
mod in_place;
mod installer;
mod interrupts;
mod ipxe;
mod kills;
mod linux;
mod live_cd;
mod multiboot;
mod qmp;
mod snapshots;
mod storage;
mod trouble;
mod typing;
mod window;
