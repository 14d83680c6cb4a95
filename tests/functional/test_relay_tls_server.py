"""test_relay.py with servers that speak TLS."""
import os

os.environ["AEGIS_TEST_TLS"] = "server"

import aegis
from test_relay import *
from papers import need_tls

need_tls()

if __name__ == "__main__":
    aegis.main()
