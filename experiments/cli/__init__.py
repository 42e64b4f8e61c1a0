"""What commands share: flags, errors, progress and signals."""
