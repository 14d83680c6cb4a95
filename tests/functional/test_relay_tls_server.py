"""test_relay.py with servers that speak TLS."""
import over_tls

over_tls.run("server", test_relay=over_tls.ALL)
