"""Certificates: the private authority, the operator's own files, and what clients have to trust."""
