//! PIIX4 power management.
