"""What the sidecar's tests share: a hub that speaks the contract, and the real program as a child process."""
