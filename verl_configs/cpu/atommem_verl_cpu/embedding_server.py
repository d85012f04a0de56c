"""Stands in for `vllm serve MODEL --runner pooling`: hashed embeddings behind /v1/embeddings, and a list of who asked.

    python -m atommem_verl_cpu.embedding_server CLIENTS serve MODEL --host 0.0.0.0 --port 8001 […]

CLIENTS is a file to which the address of each new client is appended.
"""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from atommem_gym.embedders import HashingEmbedder


def server(clients: Path, model: str, host: str, port: int) -> ThreadingHTTPServer:
    """A server that is bound and not yet serving.

    Args:
        clients: The file of addresses.
        model: Its name.
        host: Where it listens.
        port: 0 for any.
    """
    embedder = HashingEmbedder()
    known: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"object": "list", "data": [{"id": model, "object": "model", "max_model_len": 2048}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            vectors = embedder.embed(texts, "document")
            data = [
                {"object": "embedding", "index": i, "embedding": vector.tolist()} for i, vector in enumerate(vectors)
            ]
            if self.client_address[0] not in known:
                known.add(self.client_address[0])
                with clients.open("a", encoding="ascii") as file:
                    file.write(f"{self.client_address[0]}\n")
            tokens = sum(len(text.split()) for text in texts)
            usage = {"prompt_tokens": tokens, "total_tokens": tokens}
            self.answer({"object": "list", "model": body["model"], "data": data, "usage": usage})

        def answer(self, content: dict[str, Any]) -> None:
            encoded = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *args: Any) -> None:
            del args

    return ThreadingHTTPServer((host, port), Handler)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clients", type=Path)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given, _ = parser.parse_known_args()
    server(given.clients, given.model, given.host, given.port).serve_forever()


if __name__ == "__main__":
    main()
