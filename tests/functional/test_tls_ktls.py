"""test_tls.py where the kernel makes the records of all that is sent after the handshake (a stand-in: kernel_tls.c)."""
import over_tls

over_tls.run(kernel="yes", test_tls=over_tls.ALL)
