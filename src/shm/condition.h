/* The condition of one server: all that says whether, and with what weight, it gets new connections, in one place for all processes and
 * over reloads. What the operator wants (override), what checks say (health.h), what connections met with (ejection.h, breaker.h), and when
 * it last recovered, from where slow start counts.
 *
 * Process:  workers ask and report; the control process writes health and override; the rest may look. Any of them may be killed at any
 *           instruction, see the parts.
 * Memory:   in the shared segment, one per server row, all zero = usable, full weight, nothing known.
 * Epoch:    of the upstream, in the segment: raised (release) after every change that another process could want to know of, so that
 *           one load (acquire) a turn tells a worker that nothing happened. What changes by time alone raises nothing: condition_due_ns()
 *           says when to look again. Whoever is killed between a change and the epoch leaves the change untold: who buries a process, or
 *           starts in its place, raises the epochs. Until then the others' knowledge is old, and harmless: breaker_ask() decides.
 */
#ifndef AEGIS_SHM_CONDITION_H
#define AEGIS_SHM_CONDITION_H

#include "shm/breaker.h"
#include "shm/ejection.h"
#include "shm/health.h"

/* Why a server gets no new connection, the weightiest reason first. Only the operator's own are never overlooked by
 * when_all_down = "any". */
#define USABILITIES(X)                  \
	X(USABLE, "usable")             \
	X(DISABLED, "disabled")         \
	X(DRAINING, "draining")         \
	X(DOWN, "down")                 \
	X(EJECTED, "ejected")           \
	X(BREAKER_OPEN, "breaker open") \
	X(PROBES_TAKEN, "breaker half-open, all probes taken")

enum usability {
#define X(id, name) USABILITY_##id,
	USABILITIES(X)
#undef X
	        N_USABILITIES
};

#define OVERRIDES(X)            \
	X(NONE, "none")         \
	X(ENABLED, "enabled")   \
	X(DISABLED, "disabled") \
	X(DRAIN, "drain")

enum override_mode {
#define X(id, name) OVERRIDE_##id,
	OVERRIDES(X)
#undef X
	        N_OVERRIDES
};

/* What the operator set while running, over what the settings say; all zero = nothing. */
struct override {
	enum override_mode mode;
	bool has_weight;
	uint16_t weight;
};

struct condition {
	/* What is read for each connection, on a line of its own that is written only when something happens. */
	_Alignas(CACHE_LINE_BYTES) struct breaker breaker;
	struct ejection ejection;
	_Atomic uint64_t recovered_ns; /* when it last came up again or its breaker closed; 0 = never */
	_Atomic uint64_t override;     /* writer: control */
	struct health health;          /* writer: control; its verdict is the last on the line */
};

/* What a process knows of an upstream, in its own memory. */
struct condition_rules {
	struct breaker_limits breaker;
	struct ejection_limits outlier;
	struct health_limits health;
	bool is_checked; /* or else health does not count, whatever it was when it was last checked */
	uint64_t slow_start_ns;
	struct ejection_group group; /* the ejections of all servers of the upstream; may be empty when outlier is off */
	_Atomic uint64_t *epoch;     /* of the upstream; or NULL */
};

const char *usability_name(enum usability usability);
const char *override_mode_name(enum override_mode mode);

/* May it get a new connection now? is_disabled is what the settings say. A hint: with a breaker that is not closed, condition_ask() may
 * still refuse. */
must_check enum usability condition_usable(
        const struct condition *condition, const struct condition_rules *rules, bool is_disabled, uint64_t now_ns);

/* One connection. See breaker.h; a report is one for outlier ejection, too. With none usable and when_all_down = "any" leave out
 * condition_ask() and report with a pass of zeros. */
must_check enum breaker_verdict condition_ask(
        struct condition *condition, const struct condition_rules *rules, uint64_t now_ns, struct breaker_pass *pass);
void condition_report(
        struct condition *condition, const struct condition_rules *rules, struct breaker_pass *pass, bool ok, uint64_t now_ns);
void condition_abandon(struct condition *condition, const struct condition_rules *rules, struct breaker_pass *pass);

/* A check of the control process came to its end. True when the state changed. */
bool condition_checked(struct condition *condition, const struct condition_rules *rules, const struct health_check *check, uint64_t now_ns);

/* Override: the control process only. */
must_check struct override condition_override(const struct condition *condition);
void condition_set_override(struct condition *condition, const struct condition_rules *rules, struct override override);

/* Forget health, breaker, ejection and slow start; what the operator set and all counts stay. Control process only. */
void condition_reset(struct condition *condition, const struct condition_rules *rules);

/* When it last recovered: up again, an ejection over, the breaker closed. 0 = never. */
must_check uint64_t condition_recovered_ns(const struct condition *condition, const struct condition_rules *rules, uint64_t now_ns);

/* The weight now: the override's or the configured one, less while slow start lasts. 0 = no new connection. */
must_check uint32_t condition_weight(
        const struct condition *condition, const struct condition_rules *rules, uint32_t configured, uint64_t now_ns);

/* When usability or weight change next by time alone, the weight in steps of a tenth of slow start; UINT64_MAX = not. */
must_check uint64_t condition_due_ns(const struct condition *condition, const struct condition_rules *rules, uint64_t now_ns);

/* A tenth of the weight at first, but not less than 1, and in equal steps to all of it when duration_ns is over. Weights that are to be
 * seen growing are best 10 or more. since_ns 0 = never, and full weight. */
must_check uint32_t slow_start_weight(uint32_t weight, uint64_t since_ns, uint64_t now_ns, uint64_t duration_ns);

#endif
