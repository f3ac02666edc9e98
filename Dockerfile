# undiffuse on a CPU. Build: docker build -t undiffuse .
# Use:   docker run --rm -v "$PWD:/data" undiffuse train table.csv --out runs/table --budget 10m
FROM python:3.11-slim-bookworm

WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt ".[tables,science,audio,features,flows]" \
    && rm -rf /src

RUN useradd --create-home --uid 1000 undiffuse
USER 1000
WORKDIR /data
ENTRYPOINT ["undiffuse"]
CMD ["--help"]
