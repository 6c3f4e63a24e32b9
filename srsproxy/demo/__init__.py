"""Two small media origins and a test stream, to see srsproxy work without SRS: ``python -m srsproxy.demo``.

:class:`srsproxy.demo.origin.DemoOrigin` is also what tests use as an origin that does as they say.
"""
