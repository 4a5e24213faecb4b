# syntax=docker/dockerfile:1
# Leadhook in a small image: no shell, no package manager, not root.

FROM rust:1-bookworm AS build
WORKDIR /build
# The libraries first, in a layer that stays as long as Cargo.lock does: they are most of the time.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked \
    && rm -r src
# The default settings are compiled in.
COPY config/leadhook.toml config/leadhook.toml
COPY src src
# Cargo goes by file times, and those of the copy may be older than the empty program above.
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked \
    # Nothing that a test could make die.
    && if target/release/leadhook --version | grep failpoints; then exit 1; fi

# The C library, CA certificates and time zones; user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/leadhook /usr/local/bin/leadhook
# Relative paths of the settings begin here: mount config/ as /leadhook/config.
WORKDIR /leadhook
# The default is loopback, which nobody outside the container would reach. This goes before the settings file: set
# LEADHOOK__ADMIN__LISTEN to change it.
ENV LEADHOOK__ADMIN__LISTEN=0.0.0.0:9464
EXPOSE 9464
STOPSIGNAL SIGTERM
# Not ready is not unhealthy: a restart would not bring a lost broker back. Readiness is for the orchestrator to ask.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["/usr/local/bin/leadhook", "health", "--live"]
ENTRYPOINT ["/usr/local/bin/leadhook"]
CMD ["run"]
