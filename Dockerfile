# An image of Aegis: docker build -t aegis .
#
# The first stage builds the Debian package, the second installs it, with the libraries that it names. Aegis runs without root; mount
# settings of your own on /etc/aegis/aegis.conf. contrib/compose has a whole example, contrib/seccomp the profile with which io_uring works.
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential
WORKDIR /source/aegis
# What the build needs changes less often than the sources: a layer of its own.
COPY debian debian
RUN apt-get build-dep -y --no-install-recommends --build-profiles nocheck ./
COPY . .
RUN DEB_BUILD_OPTIONS="nocheck noautodbgsym" dpkg-buildpackage -us -uc -b --build-profiles=nocheck

FROM debian:bookworm-slim
COPY --from=build /source/aegis_*.deb /tmp/
# A number of its own for the user, so that volumes and manifests can name it.
RUN groupadd --system --gid 65532 aegis && useradd --system --uid 65532 --gid aegis --no-create-home --home-dir / --shell /usr/sbin/nologin aegis \
	&& apt-get update \
	&& apt-get install -y --no-install-recommends systemd-standalone-sysusers systemd-standalone-tmpfiles /tmp/aegis_*.deb \
	&& rm -rf /var/lib/apt/lists/* /tmp/aegis_*.deb \
	&& install -d -o aegis -g aegis /run/aegis
# Not root, so Aegis looks for its runtime directory here: /run/aegis.
ENV XDG_RUNTIME_DIR=/run
USER aegis
# Clients; metrics. Where it really listens is in the settings.
EXPOSE 8080 9091
# Drains: give it more time than drain.timeout (docker stop -t 45).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["aegisctl", "health"]
ENTRYPOINT ["aegis"]
CMD ["-c", "/etc/aegis/aegis.conf"]
