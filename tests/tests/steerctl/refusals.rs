//! Commands that are refused.
