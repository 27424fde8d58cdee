//! The one file that names every chip and says where it sits.
