"""The whole hub on one machine: an embedded Redis and every service on one port."""
