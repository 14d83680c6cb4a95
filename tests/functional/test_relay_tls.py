"""test_relay.py with clients that speak TLS."""
import over_tls

over_tls.run("client", test_relay=over_tls.ALL)
