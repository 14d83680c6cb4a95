"""test_queue.py with clients that speak TLS."""
import over_tls

over_tls.run("client", test_queue=over_tls.ALL)
