"""Servers that do not answer, with TLS on both sides: another one is tried, after a handshake that failed as after a connection."""
import over_tls

over_tls.run("both", test_upstream=("Failures",), without=("Failures.test_no_usable_server",))
