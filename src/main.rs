//! The `image-factory` binary.

fn main() -> std::process::ExitCode {
    match image_factory::cli::run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image-factory: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
