//! 8237A DMA controllers.
