/* Connecting to a server, without waiting. */
#ifndef AEGIS_NET_DIAL_H
#define AEGIS_NET_DIAL_H

#include "config/config.h"

/* Begin to connect. 0: connected at once, *fd is ready; -EINPROGRESS: *fd becomes writable when it is decided; else a negative
 * errno and no descriptor. The caller owns *fd. */
must_check int dial_start(const struct addr *addr, const struct tcp_config *tcp, int *fd);

/* After fd became writable: 0 when connected, or the negative errno of the attempt. */
must_check int dial_result(int fd);

#endif
