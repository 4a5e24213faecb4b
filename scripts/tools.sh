# Checks that this machine has the tools that the scripts need, and says how to get a missing one. For `source`.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Prints the oldest compiler that Cargo.toml allows.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

# Whether version $1 is at least version $2.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

need_rust() {
    local wanted found
    wanted=$(rust_wanted)
    if ! command -v cargo > /dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
    local advice="install it with
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
(see https://rustup.rs), then open a new shell"
    command -v cargo > /dev/null || die "cargo is missing: Leadhook is built with Rust $wanted or newer; $advice"
    found=$(rustc --version | cut -d ' ' -f 2)
    at_least "$found" "$wanted" || die "rustc is $found, but Rust $wanted or newer is needed; $advice"
    # The TLS library and the allocator are C and assembler. They need a compiler and make, and nothing else (no cmake,
    # no Go, no OpenSSL).
    command -v "${CC:-cc}" > /dev/null || die "a C compiler is missing (for TLS and the allocator): apt-get install gcc libc6-dev"
    [ "$(uname)" != Linux ] || command -v make > /dev/null || die "make is missing (for the allocator): apt-get install make"
}

# Prints the path of cargo's debug build.
binary() { printf '%s/debug/leadhook\n' "${CARGO_TARGET_DIR:-$ROOT/target}"; }

build() {
    need_rust
    [ -x "$(binary)" ] || say "building (the first time compiles some 250 libraries: a few minutes)"
    (cd "$ROOT" && cargo build --locked --quiet)
}
