"""Images: what they are built of, which environments there are, and how they reach each host."""
