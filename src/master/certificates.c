#include "master/certificates.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "master/master.h"
#include "master/orders.h"
#include "os/region.h"
#include "view/emit.h"

#define RETRY_NS NS_PER_S
#define RETRY_MOST_NS (60 * NS_PER_S)
enum { MOST_DOUBLINGS = 6 };

/* --- answers ----------------------------------------------------------------------------------------------------------------- */

static void emit_lines(struct emit *emit, const char *key, const struct config_errors *lines)
{
	emit_open(emit, key, '[');
	for (const char *at = lines->lines; at && *at;) {
		size_t length = strcspn(at, "\n");
		char *line = strndup(at, length);
		ensure(line);
		emit_string(emit, NULL, line);
		free(line);
		at += length + (at[length] == '\n');
	}
	emit_close(emit, ']');
}

static char *report(const struct vault_findings *findings, enum certificates_end end)
{
	static const char *const words[] = { [CERTIFICATES_SAME] = "unchanged",
		[CERTIFICATES_CHANGED] = "changed",
		[CERTIFICATES_REFUSED] = "refused",
		[CERTIFICATES_UNREAD] = "refused" };
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct emit emit = { .out = out };

	ensure(out);
	emit_open(&emit, NULL, '{');
	emit_string(&emit, "status", words[end]);
	emit_u64(&emit, "certificates", findings->n_facts);
	if (end == CERTIFICATES_REFUSED)
		emit_string(&emit, "error", "the certificates are not good; the old ones stay");
	if (end == CERTIFICATES_UNREAD)
		emit_string(&emit, "error", "the certificates could not be read, which is tried again; the old ones stay");
	emit_lines(&emit, "errors", &findings->errors);
	emit_lines(&emit, "warnings", &findings->warnings);
	emit_close(&emit, '}');
	fputc('\n', out);
	ensure(fclose(out) == 0);
	return text;
}

static void answer_all(struct master *master, int error, const char *text)
{
	struct certificates *certificates = &master->certificates;

	for (size_t i = 0; i < certificates->n_askers; i++)
		helper_answer(&master->helper, &certificates->askers[i], error, text);
	certificates->n_askers = 0;
}

/* --- shared memory ----------------------------------------------------------------------------------------------------------- */

void certificates_publish(struct master *master, const struct generation *generation, const struct vault_findings *findings)
{
	struct shm *shm = &master->shm;
	size_t n = findings->n_facts < SHM_CERTIFICATES ? findings->n_facts : SHM_CERTIFICATES;

	memcpy(master->certificates.digest, findings->digest, sizeof master->certificates.digest);
	master->certificates.failures = 0;
	if (n > 0 && region_populate(shm->certificates, n * sizeof *shm->certificates)) {
		log_warn("no room to tell when certificates expire: the file system of %s is full", master->stats_path);
		n = 0;
	}
	for (size_t i = 0; i < n; i++) {
		const struct vault_fact *fact = &findings->facts[i];
		struct shm_certificate *row = &shm->certificates[i];
		atomic_store(&row->listener, generation->places.listeners[fact->listener]);
		atomic_store(&row->not_before, fact->not_before);
		atomic_store(&row->not_after, fact->not_after);
		(void)text_copy(row->name, sizeof row->name, fact->label);
	}
	atomic_store_explicit(&shm->header->n_certificates, (uint32_t)n, memory_order_release);
}

/* --- reading ----------------------------------------------------------------------------------------------------------------- */

static void log_lines(enum log_level level, const struct config_errors *lines)
{
	for (const char *at = lines->lines; at && *at;) {
		size_t length = strcspn(at, "\n");
		log_line(level, "%.*s", (int)length, at);
		at += length + (at[length] == '\n');
	}
}

/* A folder in which something else changes is no reason to say the same again. What could not be looked at in full is nothing that is
 * known. */
static bool is_refused_already(const struct certificates *certificates, const struct vault_findings *findings)
{
	static const unsigned char nothing[VAULT_DIGEST_BYTES];

	return certificates->n_askers == 0 && !certificates->waiting && memcmp(findings->digest, nothing, sizeof nothing) != 0 &&
	       memcmp(findings->digest, certificates->refused, sizeof nothing) == 0;
}

static enum certificates_end take(struct master *master, struct keys *keys, struct vault_findings *findings)
{
	struct certificates *certificates = &master->certificates;
	struct generation *running = master->running;

	if (!keys_findings(keys, running->config, findings)) {
		log_lines(LOG_LEVEL_ERROR, &findings->errors);
		return CERTIFICATES_UNREAD;
	}
	certificates->failures = 0;
	if (findings->errors.count == 0)
		memset(certificates->refused, 0, sizeof certificates->refused);
	if (findings->errors.count == 0 && memcmp(findings->digest, certificates->digest, sizeof findings->digest) == 0)
		return CERTIFICATES_SAME;
	if (findings->errors.count > 0 && is_refused_already(certificates, findings))
		return CERTIFICATES_REFUSED;
	log_lines(LOG_LEVEL_WARN, &findings->warnings);
	log_lines(LOG_LEVEL_ERROR, &findings->errors);
	if (findings->errors.count > 0) {
		memcpy(certificates->refused, findings->digest, sizeof certificates->refused);
		log_error("certificates changed and are not taken over: the old ones stay");
		counter_add(&master->shm.header->certificates_failed, 1);
		return CERTIFICATES_REFUSED;
	}
	generation_renew_certificates(running, keys_take_vault(keys), keys_take_excerpt(keys));
	helper_renew_certificates(&master->helper);
	certificates_publish(master, running, findings);
	counter_add(&master->shm.header->certificates_ok, 1);
	log_info("certificates changed: handshakes from now on have the new ones");
	return CERTIFICATES_CHANGED;
}

static void start(struct master *master);

static bool are_there(const struct master *master)
{
	return master->running && !master->stopping && master->running->vault >= 0;
}

static char *nothing_to_report(void)
{
	struct vault_findings none = { 0 };
	return report(&none, CERTIFICATES_SAME);
}

/* What came meanwhile; but a drain may have come, too. */
static void go_on(struct master *master)
{
	struct certificates *certificates = &master->certificates;
	bool more = certificates->again || certificates->n_later > 0;

	certificates->again = false;
	memcpy(certificates->askers, certificates->later, sizeof certificates->askers);
	certificates->n_askers = certificates->n_later;
	certificates->n_later = 0;
	if (more && are_there(master)) {
		start(master);
	} else if (more) {
		char *text = nothing_to_report();
		answer_all(master, master->stopping ? -ESHUTDOWN : 0, text);
		free(text);
	}
}

static void stop_reading(struct master *master)
{
	struct certificates *certificates = &master->certificates;

	loop_io_stop(master->loop, &certificates->io);
	loop_timer_stop(master->loop, &certificates->deadline);
	keys_end(&certificates->keys, &master->hung);
}

/* --- reading again ----------------------------------------------------------------------------------------------------------- */

/* Those of another generation were read for it. */
static bool are_of_running(const struct master *master)
{
	return master->running && master->running->number == master->certificates.generation;
}

/* Nothing is started beside a child that hangs: it would hang, too, and take a place of which a reload may have need. */
static void on_retry(struct loop_timer *timer)
{
	struct master *master = container_of(timer, struct master, certificates.retry);
	if (!are_there(master) || !are_of_running(master) || master->certificates.keys.pid != 0)
		return;
	if (master->hung.n > 0)
		loop_timer_start(master->loop, timer, RETRY_NS);
	else
		start(master);
}

/* A crash may be none of the files' doing: one is made up for before anybody is told. True when it is. */
static bool read_again_at_once(struct master *master)
{
	struct certificates *certificates = &master->certificates;

	if (certificates->failures++ > 0 || !keys_ended_early(&certificates->keys))
		return false;
	log_warn("certificates are read again");
	stop_reading(master);
	start(master);
	return true;
}

static void read_again_later(struct master *master)
{
	struct certificates *certificates = &master->certificates;
	uint32_t doublings = certificates->failures > 2 ? certificates->failures - 2 : 0; /* the second one is the first that is told */
	uint64_t delay_ns = RETRY_NS << (doublings < MOST_DOUBLINGS ? doublings : MOST_DOUBLINGS);

	delay_ns = delay_ns < RETRY_MOST_NS ? delay_ns : RETRY_MOST_NS;
	counter_add(&master->shm.header->certificates_failed, 1);
	log_error("certificates are not taken over: they could not be read; the old ones stay, and the next try follows in %llu s",
	        (unsigned long long)(delay_ns / NS_PER_S));
	loop_timer_start(master->loop, &certificates->retry, delay_ns);
}

/* --- the end of a reading ---------------------------------------------------------------------------------------------------- */

static void finish(struct master *master)
{
	struct certificates *certificates = &master->certificates;
	struct vault_findings findings = { 0 };
	enum certificates_end end = CERTIFICATES_SAME;

	if (are_of_running(master))
		end = take(master, &certificates->keys, &findings);
	if (end == CERTIFICATES_UNREAD && are_there(master) && read_again_at_once(master)) {
		vault_findings_clear(&findings);
		return;
	}
	if (end == CERTIFICATES_UNREAD)
		read_again_later(master);
	bool bad = end == CERTIFICATES_REFUSED || end == CERTIFICATES_UNREAD;
	struct config *waiting = certificates->waiting;
	certificates->waiting = NULL;
	stop_reading(master);
	if (certificates->n_askers > 0) {
		char *text = report(&findings, end);
		answer_all(master, bad ? -EINVAL : 0, text);
		free(text);
	}
	if (waiting)
		order_reload_after_certificates(master, waiting, end, &findings.errors);
	vault_findings_clear(&findings);
	if (certificates->keys.pid == 0)
		go_on(master);
}

static void on_read(struct loop_io *io, int events)
{
	struct master *master = container_of(io, struct master, certificates.io);
	(void)events;
	if (keys_read(&master->certificates.keys) != -EAGAIN)
		finish(master);
}

static void on_overdue(struct loop_timer *timer)
{
	struct master *master = container_of(timer, struct master, certificates.deadline);
	struct certificates *certificates = &master->certificates;
	if (are_of_running(master))
		(void)keys_give_up(&certificates->keys, master->running->config);
	finish(master);
}

static void release_in_child(void *arg)
{
	master_release_in_child(arg, NULL, 0);
}

static void start(struct master *master)
{
	struct certificates *certificates = &master->certificates;
	const struct generation *running = master->running;
	int error = keys_start(
	        &certificates->keys, running->config, &master->identity, running->watch, &master->hung, release_in_child, master);

	loop_timer_stop(master->loop, &certificates->retry);
	certificates->generation = running->number;
	if (!error)
		error = loop_io_set(master->loop, &certificates->io, certificates->keys.fd, LOOP_READ);
	if (!error) {
		loop_timer_start(master->loop, &certificates->deadline, KEYS_NS);
		return;
	}
	log_error("cannot read the certificates: %s", keys_why_not(error));
	finish(master); /* there is no answer */
}

/* --- asking ------------------------------------------------------------------------------------------------------------------ */

static bool add_asker(struct asker *askers, size_t *n, const struct asker *asker)
{
	if (*n == CERTIFICATES_ASKERS_MOST)
		return false;
	askers[(*n)++] = *asker;
	return true;
}

void certificates_reload(struct master *master, const struct asker *asker)
{
	struct certificates *certificates = &master->certificates;
	bool reading = certificates->keys.pid != 0;

	if (!are_there(master)) {
		char *text = nothing_to_report();
		if (asker)
			helper_answer(&master->helper, asker, master->stopping ? -ESHUTDOWN : 0, text);
		free(text);
		return;
	}
	if (asker && !(reading ? add_asker(certificates->later, &certificates->n_later, asker)
	                       : add_asker(certificates->askers, &certificates->n_askers, asker))) {
		helper_answer(&master->helper, asker, -EAGAIN, "");
		return;
	}
	if (reading)
		certificates->again = true;
	else
		start(master);
}

bool certificates_first(struct master *master, struct config *config)
{
	struct certificates *certificates = &master->certificates;

	if (!master->running || master->running->vault < 0)
		return false;
	certificates->waiting = config;
	if (certificates->keys.pid != 0)
		stop_reading(master); /* it may have begun before the change that the operator speaks of */
	start(master);
	return true;
}

bool certificates_hold_reload(const struct master *master)
{
	return master->certificates.waiting != NULL;
}

void certificates_cancel(struct master *master)
{
	config_free(master->certificates.waiting);
	master->certificates.waiting = NULL;
}

void certificates_init(struct master *master)
{
	master->certificates.keys = KEYS_NONE;
	loop_io_init(&master->certificates.io, on_read);
	loop_timer_init(&master->certificates.deadline, on_overdue);
	loop_timer_init(&master->certificates.retry, on_retry);
}

void certificates_fini(struct master *master)
{
	if (!master->loop)
		return;
	certificates_cancel(master);
	loop_timer_stop(master->loop, &master->certificates.retry);
	stop_reading(master);
}

void certificates_tick(struct master *master)
{
	struct certificates *certificates = &master->certificates;

	if (are_of_running(master))
		keys_tick(&certificates->keys, master->running->config);
}

void certificates_release_in_child(const struct master *master)
{
	keys_release_in_child(&master->certificates.keys);
}
