/* The active checks of the settings: which servers, how, and what becomes of their results.
 *
 * Process: control. Writes the health of the servers that it checks, logs when one goes down or comes up, and raises the epochs.
 * States:  of a check: not begun -> first (its server is unknown, no result yet) -> settled.
 */
#ifndef AEGIS_CONTROL_CHECKS_H
#define AEGIS_CONTROL_CHECKS_H

#include "control/control.h"
#include "os/loop.h"

struct checks;

typedef void checks_settled_fn(void *arg);

/* How a server of the upstream is checked; the addresses are left out. */
struct prober_settings;
void checks_describe(const struct upstream_config *upstream, struct prober_settings *out);

/* NULL when out of memory. */
must_check struct checks *checks_new(struct loop *loop, const struct control_args *args);
void checks_free(struct checks *checks);

/* Begin those that were not begun; in the trial only where no other control process checks the same server at the same address. What the
 * trial finds out about one whose row is still about another address is handed in with the next call. settled (may be NULL) is called once,
 * from the loop, when each that nothing is known of has had its first result, or the time for that is over. One that cannot be begun is
 * logged. */
void checks_begin(struct checks *checks, bool trial, checks_settled_fn *settled, void *arg);

/* Other certificates by which checks speak TLS; the descriptor stays the caller's. */
void checks_renew_certificates(struct checks *checks, int excerpt);

/* A name stands for other addresses now (n 1..8, with the port of the server): check it there, from the next check on. */
void checks_move(struct checks *checks, size_t upstream, size_t server, const struct addr *addrs, size_t n);

#endif
