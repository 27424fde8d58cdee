//! VGA with Bochs VBE.
