//! Finding SeaBIOS and its VGA BIOS, and our option ROM that starts kernels.
