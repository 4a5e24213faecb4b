//! The binary: everything lives in the library.

/// What consuming allocates, delivering frees, in another thread. With the allocator of glibc each waits for the other.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    leadhook::cli::main()
}
