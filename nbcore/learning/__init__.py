"""Making a policy: losses, training, checkpoints."""
