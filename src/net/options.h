/* Socket options from the settings (tcp = { }). */
#ifndef AEGIS_NET_OPTIONS_H
#define AEGIS_NET_OPTIONS_H

#include "config/config.h"

/* Those of a listening socket, before listen(). On Linux accepted sockets inherit them, so that an accept costs no further
 * call. Sockets that are not TCP are left alone. 0 or a negative errno with *option the name of what failed. */
must_check int options_set_listener(int fd, const struct tcp_config *tcp, const char **option);

/* Those of a socket that is about to connect, which must be set by then. Options that the kernel lacks are left out. */
void options_set_dialled(int fd, sa_family_t family, const struct tcp_config *tcp);

/* The other ones of a dialled TCP socket: nothing of them shows before the second write or before the connection was quiet for a while, so
 * that a short connection can do without (six system calls). */
void options_set_late(int fd, const struct tcp_config *tcp);

#endif
