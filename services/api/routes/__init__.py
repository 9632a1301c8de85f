"""One module for each resource. A resource class takes what it needs and lists its endpoints in ``endpoints``."""
