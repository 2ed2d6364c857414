//! The world outside that speaks a protocol: identity providers.
