"""test_relay.py with TLS 1.2 on both sides."""
import over_tls

over_tls.run("both", version="1.2", test_relay=over_tls.ALL)
