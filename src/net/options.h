/* Socket options from the settings (tcp = { }). */
#ifndef AEGIS_NET_OPTIONS_H
#define AEGIS_NET_OPTIONS_H

#include "config/config.h"

/* Those of a listening socket, before listen(). On Linux accepted sockets inherit them, so that an accept costs no further
 * call. Sockets that are not TCP are left alone. 0 or a negative errno with *option the name of what failed. */
must_check int options_set_listener(int fd, const struct tcp_config *tcp, const char **option);

/* Those of a socket that is about to connect. Options that the kernel lacks are left out. */
void options_set_dialled(int fd, sa_family_t family, const struct tcp_config *tcp);

#endif
