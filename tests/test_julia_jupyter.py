"""A Jupyter kernel: an interrupt while Julia trains is a KeyboardInterrupt, and both live on."""

import time

import pytest

pytestmark = [pytest.mark.peers, pytest.mark.julia]

TRAIN = """
from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.data import synthetic
model = backend("julia").build(MobileNetConfig("v1", 0.25, resolution=32, num_classes=10))
data = synthetic(256, num_classes=10)
print("ready", flush=True)
model.fit(data, TrainConfig(batch_size=32, steps=1_000_000))
"""

PREDICT = "print(model.predict(data.images[:2].astype('float32')).shape, flush=True)"


def wait_for(client, kind, seconds=120):
    """The content of the kernel's next message of a kind."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        message = client.get_iopub_msg(timeout=seconds)
        if message["msg_type"] == kind:
            return message["content"]
    raise TimeoutError(kind)


def test_an_interrupt_during_fit_is_a_keyboard_interrupt_and_the_kernel_lives_on():
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute(TRAIN, stop_on_error=False)
        text = ""
        while "ready" not in text:
            text += wait_for(client, "stream")["text"]
        time.sleep(2)
        manager.interrupt_kernel()
        assert wait_for(client, "error")["ename"] == "KeyboardInterrupt"
        client.execute(PREDICT)
        assert wait_for(client, "stream")["text"] == "(2, 10)\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
