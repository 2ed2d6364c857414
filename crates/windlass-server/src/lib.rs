//! The service: JSON API, pages, event streams, sign-in and metrics over the use cases.

pub mod pages;
