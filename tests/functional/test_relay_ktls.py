"""test_relay.py with TLS on both sides, where the kernel makes the records, and is slow to send the last of them (a stand-in: kernel_tls.c).
Storms of connections, of which the kernel gets none, are with test_relay_tls_both.py."""
import over_tls

over_tls.run("both", kernel="yes,tail", test_relay=("Bytes", "Ends", "Resets"))
