//! windlass-lang
