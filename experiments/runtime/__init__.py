"""What a run runs on: devices, processes, files, JAX's settings."""
