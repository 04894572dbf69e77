"""What exists: identity, records, time, storage and tensors of the graph. Imports nothing else of ours."""
