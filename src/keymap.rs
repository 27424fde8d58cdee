//! Keys of the host to keys of a PC, by place.
