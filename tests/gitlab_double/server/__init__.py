"""What answers in the double's container. Imports are relative: in the image the package stands alone."""
