# The mirror in a container, without a window: its screen is the page of --web (docs/mirror.md#docker).
#
#     docker build -t mirror .
#     docker build -t mirror --build-arg EXTRAS=openvino,web,tensorrt-rtx .    # for an RTX card

FROM debian:bookworm-slim AS system
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*

FROM system AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3-dev python3-venv
ARG EXTRAS=openvino,web
ENV RMGN_OPENCV=headless
WORKDIR /opt/mirror
COPY . .
RUN python3 -m venv .venv && .venv/bin/pip install --no-cache-dir -e ".[$EXTRAS]"

FROM system
COPY --from=build /opt/mirror /opt/mirror
WORKDIR /opt/mirror
# Not root; on Debian and Ubuntu the group `video` may open cameras.
RUN useradd --create-home --groups video mirror
USER mirror
ENTRYPOINT ["/opt/mirror/.venv/bin/rmgn"]
CMD ["mirror", "--source", "models/clip.mp4", "--headless"]
