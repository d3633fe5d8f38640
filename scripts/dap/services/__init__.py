"""Service folders: manifests and the rules for containers."""
