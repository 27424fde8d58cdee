//! Colours, sizes and spacing: the only place that names them.
