"""JSON shapes of what travels over HTTP and WebSocket."""
