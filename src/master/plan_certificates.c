/* What a plan says of certificates: whether a start would take them, and when they expire. */
#include <string.h>
#include <time.h>

#include "master/plan_checks.h"
#include "tls/build.h"

enum { DAY_S = 86400, MOST_TOLD = 20, SOON_DAYS = 30 };

static const char *date_of(int64_t time_s, char *out, size_t size)
{
	time_t time = (time_t)time_s;
	struct tm tm;
	if (!gmtime_r(&time, &tm) || strftime(out, size, "%Y-%m-%d", &tm) == 0)
		(void)snprintf(out, size, "a far day");
	return out;
}

/* All of a few; of many those that end soon. */
static void tell_expiry(struct plan *plan, const struct config *config, const struct vault_findings *findings, int64_t now_s)
{
	char date[32], path[CONFIG_NAME_SIZE + 32];
	size_t left_out = 0;
	for (size_t i = 0; i < findings->n_facts; i++) {
		const struct vault_fact *fact = &findings->facts[i];
		int64_t left_s = fact->not_after - now_s;
		if (findings->n_facts > MOST_TOLD && left_s > SOON_DAYS * DAY_S) {
			left_out++;
			continue;
		}
		(void)snprintf(path, sizeof path, "listeners.%s.tls", config->listeners[fact->listener].name);
		if (left_s > 0)
			plan_add(plan, PLAN_NOTE, path, "certificate %s: until %s, another %lld day%s", fact->label,
			        date_of(fact->not_after, date, sizeof date), (long long)(left_s / DAY_S), left_s / DAY_S == 1 ? "" : "s");
		else
			plan_add(plan, PLAN_NOTE, path, "certificate %s: expired on %s", fact->label,
			        date_of(fact->not_after, date, sizeof date));
	}
	if (left_out > 0)
		plan_add(plan, PLAN_NOTE, "tls", "%zu%s certificates are good for more than %d days", left_out,
		        left_out < findings->n_facts ? " other" : "", SOON_DAYS);
}

void plan_check_certificates(struct plan *plan, const struct plan_ground *ground)
{
	struct vault_findings findings = { 0 };
	struct tls_files files;
	int64_t now_s = (int64_t)time(NULL);
	if (!vault_is_needed(ground->after) || !ground->same_rights)
		return;
	if (tls_files_list(ground->after, &files) == 0) {
		plan->checked.files += files.n;
		tls_files_free(&files);
	}
	if (vault_check(ground->after, now_s, ground->at, &findings))
		plan_add(plan, PLAN_ERROR, "tls", "the certificates cannot be looked at: out of memory");
	plan_add_lines(plan, PLAN_ERROR, &findings.errors);
	plan_add_lines(plan, PLAN_WARNING, &findings.warnings);
	tell_expiry(plan, ground->after, &findings, now_s);
	vault_findings_clear(&findings);
}
