//! windlass-drivers
