//! windlass-app
