/* Connecting to a server, without waiting. */
#ifndef AEGIS_NET_DIAL_H
#define AEGIS_NET_DIAL_H

#include "config/config.h"

/* A socket with those options that must be there before connecting; options_set_late() sets the others. A descriptor, which is the
 * caller's, or a negative errno. */
must_check int dial_open(const struct addr *addr, const struct tcp_config *tcp);

/* Begin to connect. 0: connected at once; -EINPROGRESS: fd becomes writable when it is decided; else a negative errno. */
must_check int dial_connect(int fd, const struct addr *addr);

/* After fd became writable: 0 when connected, or the negative errno of the attempt. */
must_check int dial_result(int fd);

#endif
