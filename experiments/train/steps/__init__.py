"""The steps of training, as pure functions, and the programs that run them on the devices."""
