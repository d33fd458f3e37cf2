//! Traffic of our own: flows that carry their number, so that both ends know them.
