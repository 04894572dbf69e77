"""Reference models, each in one module with its source cited."""
