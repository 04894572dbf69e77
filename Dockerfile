# Isthmus, to serve or to run any of its commands:   docker build -t isthmus . ; docker run --rm isthmus --help
FROM python:3.11-slim

RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 util-linux && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv && useradd --create-home --uid 1000 isthmus
WORKDIR /opt/isthmus
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY graph graph
COPY models models
COPY ingest ingest
COPY train train
COPY serve serve
COPY isthmus_client isthmus_client
COPY isthmus.py settings.py demo.py ./
RUN uv pip install --system --no-cache --constraint constraints.txt .
USER isthmus
ENV OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 HF_HUB_OFFLINE=1
EXPOSE 8000
ENTRYPOINT ["isthmus"]
CMD ["--help"]
