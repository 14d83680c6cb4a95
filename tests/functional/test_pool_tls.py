"""test_pool.py with clients that speak TLS: framing, retries and giving back are about what is inside."""
import over_tls

over_tls.run("client", test_pool=over_tls.ALL)
