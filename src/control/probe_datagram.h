/* One attempt of a check by datagrams (health type "udp"): what is to be said is sent, and once more after half of the time, since a
 * datagram may be lost.
 *
 *   good      the first datagram that comes, where it has in it what is expected; or, of a server that is silent, that nobody refused
 *             within half of the time, a second at most
 *   bad       another datagram
 *   refused   ICMP says that nobody has the port
 *
 * Process: control. States: waiting -> over: done() is called once, from the loop and never from within probe_datagram_start().
 * Owner:   the attempt frees itself before done() is called; probe_datagram_stop() frees it without.
 */
#ifndef AEGIS_CONTROL_PROBE_DATAGRAM_H
#define AEGIS_CONTROL_PROBE_DATAGRAM_H

#include "base/addr.h"
#include "control/outcome.h"
#include "net/dial.h"
#include "os/loop.h"

struct probe_datagram;

/* Begin. The rules stay the caller's for as long as the attempt. 0 and *out, or a negative errno: for outcome_not_connected(). */
must_check int probe_datagram_start(struct loop *loop, const struct addr *addr, const struct dial_source *source,
        const struct probe_rules *rules, uint64_t timeout_ns, outcome_fn *done, void *arg, struct probe_datagram **out);
void probe_datagram_stop(struct probe_datagram *datagram);
/* What it waits for: the rest of "timed out waiting for". */
const char *probe_datagram_awaits(const struct probe_datagram *datagram);

#endif
