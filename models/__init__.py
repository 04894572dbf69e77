"""What can be computed: tensors in, tensors out. Imports graph only."""
