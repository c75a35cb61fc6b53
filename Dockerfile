# One image for all hosts of docker-compose.yml: the project, its command line, and the example.
FROM python:3.12-slim

COPY . /opt/gutscore_rs
RUN pip install --no-cache-dir "/opt/gutscore_rs[example]" \
    # Whoever the container runs as makes the state folder in here, for itself alone (0700).
    && mkdir -m 1777 /state

# An ordinary user without an entry in /etc/passwd: nothing is written to a home.
ENV HOME=/tmp PYTHONUNBUFFERED=1
USER 1000:1000
# Workers look for modules under the same path on each host: the image has the project where the case file is.
WORKDIR /opt/gutscore_rs
ENTRYPOINT ["gutscore-rs"]
CMD ["--help"]
