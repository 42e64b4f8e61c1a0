"""Commands that train, evaluate and draw: the experiments of the paper."""
