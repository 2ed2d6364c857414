//! Reviews for tests.
