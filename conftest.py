"""Settings of every test and doctest."""

import os

# Most of the tests' time is LLVM's, over programs that run once: optimised less, they are compiled
# twice as fast. What users run is optimised, as is the training run of .ci/run.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
