//! PIIX3 ISA bridge.
