"""A process that holds one trainer and does what it is asked, a line of JSON at a time.

This is not a command for users: `benchmarks.workers` starts it. It works only between a request and
its answer, so that trainers measured in turn do not share the processor.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, recipe
from benchmarks.peers import PEERS

# The steps of an epoch of MNIST-1K, after which the project's trainer comes back to the host.
STEPS_A_CALL = 10


class Worker:
    """The requests, as methods, and what they share: the peer's module and what it made."""

    def __init__(self, peer: str, inputs: Path) -> None:
        self.inputs = recipe.read_inputs(inputs)
        start = time.perf_counter()
        self.module: Any = importlib.import_module(PEERS[peer].module)
        self.import_seconds = time.perf_counter() - start
        self.trainer: recipe.Trainer | None = None
        self.predict: Callable[[], np.ndarray] | None = None

    def loss_and_gradient(self, model: str, network: str, path: str) -> dict[str, Any]:
        """The loss of the inputs; the gradient goes into a file."""
        loss, gradient = self.module.loss_and_gradient(model, network, *self.inputs)
        recipe.write_inputs(self.inputs._replace(params=gradient), Path(path))
        return {"loss": loss}

    def trained_loss(self, model: str, network: str, num_steps: int) -> dict[str, Any]:
        """The loss of the inputs after `num_steps` steps of training on them as one batch."""
        params, images, labels, noise = self.inputs
        trainer = self.module.make(model, network, params, images, labels)
        trainer.run(num_steps)
        trained = trainer.params()
        loss, _ = self.module.loss_and_gradient(model, network, trained, images, labels, noise)
        return {"loss": loss}

    def start(self, model: str, network: str) -> dict[str, Any]:
        """Gets ready and takes the first step."""
        start = time.perf_counter()
        params, images, labels, _ = self.inputs
        self.trainer = self.module.make(model, network, params, images, labels)
        self.trainer.run(1)
        first_step_seconds = time.perf_counter() - start
        # The project's trainer then begins the next call at the start of an epoch.
        self.trainer.run(STEPS_A_CALL - 1)
        return {"import_seconds": self.import_seconds, "first_step_seconds": first_step_seconds}

    def measure(self, seconds: float) -> dict[str, Any]:
        """Trains for this many seconds."""
        trainer = self.trainer
        assert trainer is not None
        # Other workers ran meanwhile, and the caches hold their data.
        trainer.run(STEPS_A_CALL)
        calls, start = 0, time.perf_counter()
        while True:
            trainer.run(STEPS_A_CALL)
            calls += 1
            passed = time.perf_counter() - start
            if passed >= seconds:
                break
        return {
            "steps_per_second": calls * STEPS_A_CALL * trainer.num_models / passed,
            "peak_memory_bytes": machine.peak_memory_bytes(),
        }

    def start_predicting(
        self, function: str, model: str, network: str, batch_size: int, path: str
    ) -> dict[str, Any]:
        """Gets ready and predicts once; the log-probabilities go into a file."""
        start = time.perf_counter()
        make = getattr(self.module, function)
        self.predict = make(model, network, self.inputs.params, self.inputs.images, batch_size)
        log_probs = self.predict()
        seconds = time.perf_counter() - start
        np.save(path, log_probs)
        return {"first_seconds": seconds}

    def measure_predicting(self, seconds: float) -> dict[str, Any]:
        """Predicts all images again and again for this many seconds."""
        assert self.predict is not None
        self.predict()
        calls, start = 0, time.perf_counter()
        while True:
            self.predict()
            calls += 1
            passed = time.perf_counter() - start
            if passed >= seconds:
                break
        return {
            "seconds": passed / calls,
            "peak_memory_bytes": machine.peak_memory_bytes(),
        }


def main(peer: str, inputs: str) -> None:
    """Answers requests until the input ends."""
    # Frameworks may print. Their output goes to stderr; only the answers go to the pipe.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker(peer, Path(inputs))
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(worker, request.pop("request"))(**request)
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
