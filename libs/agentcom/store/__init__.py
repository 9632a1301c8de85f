"""Redis and nothing else: keys, scripts, and one repository per aggregate."""
