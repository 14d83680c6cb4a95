"""test_relay.py with TLS 1.2 on both sides."""
import os

os.environ["AEGIS_TEST_TLS"] = "both"
os.environ["AEGIS_TEST_TLS_VERSION"] = "1.2"

import aegis
from test_relay import *
from papers import need_tls

need_tls()

if __name__ == "__main__":
    aegis.main()
