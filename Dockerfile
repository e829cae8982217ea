# syntax=docker/dockerfile:1

# The image of Halyard: the program and the libraries that it needs, nothing else; no shell, no package manager, not root.
#
#     docker build --tag halyard .
#
# Each base image is an argument with a tag. To pin what a tag means, append its digest:
#     docker build --build-arg RUNTIME=gcr.io/distroless/cc-debian13:nonroot@sha256:… .

ARG BUILDER=rust:1.95-trixie
ARG RUNTIME=gcr.io/distroless/cc-debian13:nonroot

FROM ${BUILDER} AS builder
WORKDIR /build
# The dependencies are a layer of their own: it is made anew only when one of these files changes.
COPY Cargo.toml Cargo.lock Makefile ./
RUN make release-dependencies
COPY build.rs ./
COPY proto ./proto
COPY migrations ./migrations
COPY src ./src
RUN make release

FROM ${RUNTIME}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Halyard" \
      org.opencontainers.image.description="Feature flags and experiments: stored in PostgreSQL, evaluated from memory, pushed to every client." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /build/target/release/halyard /usr/local/bin/halyard
# By number: Kubernetes can tell only of a number that it is not root.
USER 65532:65532
EXPOSE 50051
# The program drains its streams and requests upon it.
STOPSIGNAL SIGTERM
# With TLS, or another port, give HALYARD_ENDPOINT and what the client needs. Kubernetes has probes of its own and leaves this out.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
  CMD ["/usr/local/bin/halyard", "health"]
ENTRYPOINT ["/usr/local/bin/halyard"]
CMD ["serve"]
