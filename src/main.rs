//! The binary. All code is in the library.

/// Consuming allocates memory that delivering frees in another thread. With glibc's allocator, these threads wait for
/// each other.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    leadhook::cli::main()
}
