//! PS/2 keyboard.
