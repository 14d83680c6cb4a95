/* One attempt of a check that is spoken by proto/probe.h, over a socket of its own.
 *
 * Process: control.
 * States:  connecting -> talking -> over: done() is called once, from the loop and never from within probe_stream_start().
 * Owner:   the attempt frees itself before done() is called; probe_stream_stop() frees it without.
 */
#ifndef AEGIS_CONTROL_PROBE_STREAM_H
#define AEGIS_CONTROL_PROBE_STREAM_H

#include "base/addr.h"
#include "control/linger.h"
#include "control/outcome.h"
#include "net/dial.h"

struct probe_stream;

/* Begin. The rules stay the caller's for as long as the attempt. 0 and *out, or a negative errno: for outcome_not_connected(). */
must_check int probe_stream_start(struct linger_set *linger, const struct addr *addr, const struct dial_source *source,
        const struct probe_rules *rules, outcome_fn *done, void *arg, struct probe_stream **out);
void probe_stream_stop(struct probe_stream *stream);
/* What it waits for: the rest of "timed out waiting for". */
const char *probe_stream_awaits(const struct probe_stream *stream);

#endif
