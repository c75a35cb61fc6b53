# A host for workers: Python, the library, the command. Built and used by docker-compose.yml.
FROM python:3.13-slim

WORKDIR /opt/gutscore_rs
COPY pyproject.toml README.md LICENSE ./
COPY gutscore_rs ./gutscore_rs
COPY workers ./workers
COPY examples ./examples
RUN pip install --no-cache-dir ".[example]"

# The state folder must be ours alone; a new volume takes owner and mode from here.
RUN useradd --uid 1000 --create-home gutscore && install -d -o gutscore -g gutscore -m 700 /state
USER gutscore
ENV GUTSCORE_RS_STATE_DIR=/state PYTHONUNBUFFERED=1
WORKDIR /home/gutscore
ENTRYPOINT ["gutscore-rs"]
CMD ["doctor"]
