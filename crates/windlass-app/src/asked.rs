//! Gates that are asked from where programs run: this program asks them there, for the process that wants to know.

pub use windlass_drivers::probe::ASK;

/// Asks the gate in the JSON text once: the exit status that says what came of it, and what there is to say.
pub fn ask(gate: &str) -> (u8, String) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(windlass_drivers::probe::ask(gate)),
        Err(error) => (2, error.to_string()),
    }
}
