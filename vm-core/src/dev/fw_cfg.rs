//! fw_cfg, the firmware configuration port.
