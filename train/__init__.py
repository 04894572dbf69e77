"""The graph becomes a bundle: snapshot, split, training, evaluation, release."""
