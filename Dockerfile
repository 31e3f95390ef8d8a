# One executable on a small base, as a user without rights.
FROM denoland/deno:2.9.6 AS build
WORKDIR /src
COPY . .
RUN deno task compile && mkdir -p /out/data && cp dist/epoxi /out/epoxi

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/epoxi /usr/local/bin/epoxi
# The queue. It must outlive the container: mount a volume here.
COPY --from=build --chown=nonroot:nonroot /out/data /var/lib/epoxi
ENV EPOXI_DATA_DIR=/var/lib/epoxi
VOLUME /var/lib/epoxi
# SMTP, and the HTTP API. The API listens on loopback until EPOXI_HTTP_LISTEN and EPOXI_API_TOKENS say otherwise.
EXPOSE 2525 4000
# Asks for life, not readiness: a full disk is no reason to restart.
HEALTHCHECK --interval=30s --timeout=6s --start-period=15s CMD ["/usr/local/bin/epoxi", "health", "--live"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/epoxi"]
CMD ["serve"]
