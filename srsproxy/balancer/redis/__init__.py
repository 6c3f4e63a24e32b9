"""What many proxies share by way of Redis."""
