//! The binary: everything lives in the library.

fn main() -> std::process::ExitCode {
    leadhook::cli::main()
}
