"""Development containers: what users work in, with the images of the environments, over SSH."""
