//! PS/2 mouse.
