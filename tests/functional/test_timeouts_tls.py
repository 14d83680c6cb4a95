"""test_timeouts.py with clients that speak TLS."""
import over_tls

over_tls.run("client", test_timeouts=over_tls.ALL)
