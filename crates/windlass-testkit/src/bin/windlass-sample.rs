//! `windlass-sample DIR`: makes the sample company repository.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: windlass-sample DIR");
        return ExitCode::from(2);
    };
    match windlass_testkit::sample::write_sample(directory.as_ref()) {
        Ok(sample) => {
            println!("{}", sample.root.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}
