# Leadhook in a small image: no shell, no package manager, not root.

# Full image names, because Podman on a fresh machine does not know which registry a short name means.
FROM docker.io/library/rust:1-bookworm AS build
WORKDIR /build
# Builds libraries first, in their own layer: they take most of the build's time and change only with Cargo.lock.
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
# Cargo compares file times, and the copied files may be older than the empty program above.
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked
# Fail points let a test kill the process, so an image must not contain them.
RUN version=$(target/release/leadhook --version) \
    && echo "$version" \
    && case $version in *failpoints*) exit 1 ;; esac

# Contains the C library, CA certificates and time zones.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/leadhook /usr/local/bin/leadhook
# A number lets an orchestrator see that this is not root.
USER 65532:65532
# Relative paths in the settings start here: mount config/ as /leadhook/config.
WORKDIR /leadhook
# The default, loopback, cannot be reached from outside the container. The variable overrides the settings file.
ENV LEADHOOK__ADMIN__LISTEN=0.0.0.0:9464
EXPOSE 9464
STOPSIGNAL SIGTERM
# No HEALTHCHECK: it would report every command except `run` as unhealthy, and Podman's default image format has none.
# `docker compose up --wait` fails if a service disables the check of its image (docker/compose issue 13522). The worker
# in docker-compose.yml has its own check.
ENTRYPOINT ["/usr/local/bin/leadhook"]
CMD ["run"]
