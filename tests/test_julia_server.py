"""A web server with a thread pool answers from Julia: Starlette under uvicorn, on loopback."""

import http.client
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain

import numpy as np
import pytest
from julia_processes import SETUP

pytestmark = pytest.mark.julia

CLIENTS = 16

SERVER = (
    SETUP
    + """
import asyncio, socket, uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

model = backend("julia").build(config, seed=1); frozen = model.freeze()
labels = np.arange(2)

def numbers(kind, images):
    if kind == "predict": return model.predict(images)
    if kind == "frozen": return frozen(images)
    return np.array(model.loss_and_grads(images, labels)[0])

async def answer(request):
    images = np.frombuffer(await request.body(), np.float32).reshape(2, 3, 32, 32)
    result = await run_in_threadpool(numbers, request.path_params["kind"], images)
    return Response(result.tobytes(), media_type="application/octet-stream")

listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(64)
app = Starlette(routes=[Route("/{kind}", answer, methods=["POST"])])
server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
print(listener.getsockname()[1], flush=True)
asyncio.run(server.serve(sockets=[listener]))
"""
)

KINDS = ("predict", "frozen", "frozen", "loss")


def connect(port):
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120))


def ask(connection, kind, body):
    start = time.perf_counter()
    connection.request("POST", f"/{kind}", body)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content
    return content, time.perf_counter() - start


def serve(requests):
    """Seconds of each request, in order of their length, after every answer was compared."""
    images = np.random.default_rng(0).standard_normal((4, 2, 3, 32, 32)).astype(np.float32)
    bodies = [image.tobytes() for image in images]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        port = int(process.stdout.readline())
        with connect(port) as one:
            expected = {(kind, k): ask(one, kind, bodies[k])[0] for kind in KINDS for k in range(4)}
        barrier = threading.Barrier(CLIENTS)

        def client(number):
            seconds = []
            with connect(port) as connection:
                barrier.wait(60)
                for request in range(requests // CLIENTS):
                    kind, k = KINDS[(number + request) % 4], request % 4
                    content, taken = ask(connection, kind, bodies[k])
                    assert content == expected[kind, k]
                    seconds.append(taken)
            return seconds

        with ThreadPoolExecutor(CLIENTS) as pool:
            seconds = sorted(chain.from_iterable(pool.map(client, range(CLIENTS))))
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert errors == ""
        return seconds
    finally:
        process.kill()
        process.communicate()


def report(seconds):
    """Write the two percentiles, which pytest shows with -rP."""
    p50, p99 = (1e3 * seconds[int(len(seconds) * share)] for share in (0.5, 0.99))
    load = os.getloadavg()[0]
    sys.stdout.write(f"{len(seconds)} requests: p50 {p50:.1f} ms, p99 {p99:.1f} ms, load {load}\n")


def test_sixteen_clients_of_a_server_are_answered():
    seconds = serve(320)
    assert len(seconds) == 320
    report(seconds)


@pytest.mark.soak
def test_ten_thousand_requests_are_answered():
    seconds = serve(10_000)
    assert len(seconds) == 10_000
    report(seconds)
