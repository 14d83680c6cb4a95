/* What the files of a listener share: listener.c (its sockets bind, listen, leave), listener_adopt.c (those that were handed over) and
 * listener_match.c (is it the one that some settings mean). See listener.h.
 */
#ifndef AEGIS_NET_LISTENER_OWN_H
#define AEGIS_NET_LISTENER_OWN_H

#include "net/listener.h"

/* The descriptor is the listener's on success. 0 or -ENOMEM. */
must_check int listener_add_fd(struct listener *listener, int fd);

/* fd:N, of which it has a copy then; and all that systemd passed by this name. 0, or a negative errno with *why. */
must_check int listener_adopt_fd(struct listener *listener, int fd, char *why, size_t why_size);
must_check int listener_adopt_systemd(struct listener *listener, const char *name, char *why, size_t why_size);

#endif
