/* What a target of the prober is checked by: its settings, copied, with all that is made of them once and for all.
 *
 * Process: control. Owner: the target; free() gives all of it back.
 */
#ifndef AEGIS_CONTROL_CHECK_PLAN_H
#define AEGIS_CONTROL_CHECK_PLAN_H

#include "control/probe_http.h"
#include "control/prober.h"

struct check_plan {
	uint64_t key;
	struct probe_rules rules;
	struct probe_http_rules http;
	struct probe_tls tls;
	struct dial_source source;
	size_t n_addrs;
	struct addr addrs[]; /* and behind them the texts of the rules */
};

/* http and https by themselves have a TLS of their own; that of a session takes a stream of ours. */
must_check bool check_plan_is_by_libcurl(enum probe_kind kind, const struct probe_tls *tls);

/* Of settings that prober_check() takes, with an address. NULL when out of memory. */
must_check struct check_plan *check_plan_new(const struct prober_settings *settings);

#endif
