"""The words everyone shares: declarations, values, schema, protocols, errors. Standard library only."""
