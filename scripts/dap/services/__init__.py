"""Service folders: manifests, the rules for containers, and images."""
