"""What a host gets, rendered from the resolved platform."""
