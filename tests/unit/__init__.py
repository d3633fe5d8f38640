"""Tests that need no host and no container."""
