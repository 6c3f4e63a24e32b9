"""RTMP: sans-I/O codecs and negotiation, and the Twisted server that uses them."""
