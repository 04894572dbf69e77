"""Platform exports and events become the graph: the store and the text vectors."""
