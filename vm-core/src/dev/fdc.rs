//! 82077AA floppy controller.
