#include "view/flight.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "view/connections.h"
#include "view/emit.h"
#include "view/flight_words.h"

#define NO_NUMBER UINT64_MAX
enum { NO_STEP = UINT32_MAX };

/* A connection of the client. */
struct flight {
	uint32_t seat, serial;
	uint64_t number;      /* of the first record that names the client: the newer the higher, in a seat; NO_NUMBER = there is none */
	uint64_t began_ns;    /* as that record says */
	uint32_t first, last; /* steps, or NO_STEP */
	bool over;
	const struct roll_row *open; /* what its worker said of it, or NULL */
};

struct step_of {
	struct record record;
	uint32_t next;
};

struct search {
	const struct shm *shm;
	const struct flight_question *question;
	struct flight *flights;
	size_t n, size;
	struct step_of *steps;
	size_t n_steps, steps_size;
};

/* The array, with room for one more than n elements; NULL without memory, and the array stays as it is. */
static void *with_room(void *array, size_t *size, size_t n, size_t element)
{
	if (n < *size)
		return array;
	size_t wanted = *size ? 2 * *size : 64;
	void *grown = reallocarray(array, wanted, element);
	if (grown)
		*size = wanted;
	return grown;
}

/* --- which connections -------------------------------------------------------------------------------------------------------- */

static int compare_ids(const void *left, const void *right)
{
	const struct flight *a = left, *b = right;
	if (a->seat != b->seat)
		return a->seat < b->seat ? -1 : 1;
	return a->serial != b->serial ? a->serial < b->serial ? -1 : 1 : 0;
}

static int compare_newest_first(const void *left, const void *right)
{
	const struct flight *a = left, *b = right;
	if (a->began_ns != b->began_ns)
		return a->began_ns > b->began_ns ? -1 : 1;
	if (a->seat == b->seat && a->number != b->number)
		return a->number > b->number ? -1 : 1;
	return compare_ids(left, right);
}

static const struct record_address *client_of(const struct record *record)
{
	if (record->kind == RECORD_ACCEPTED || record->kind == RECORD_INTRODUCED)
		return &record->client;
	return record->kind == RECORD_CLOSED ? &record->closed.client : NULL;
}

/* When it was accepted, by a record that names the client. */
static uint64_t began_ns(const struct record *record)
{
	uint64_t lived_ns = record->kind == RECORD_CLOSED ? record->closed.lived_ms * NS_PER_MS : 0;
	return lived_ns < record->time_ns ? record->time_ns - lived_ns : 0;
}

static int add_flight(struct search *search, const struct flight *flight)
{
	struct flight *flights = with_room(search->flights, &search->size, search->n, sizeof *flights);
	if (!flights)
		return -ENOMEM;
	search->flights = flights;
	flights[search->n] = *flight;
	flights[search->n].first = flights[search->n].last = NO_STEP;
	search->n++;
	return 0;
}

static int note_flight(struct search *search, uint32_t seat, uint64_t number, const struct record *record)
{
	const struct record_address *client = client_of(record);
	if (!client || record->serial == 0 || !client_filter_has(&search->question->client, client))
		return 0;
	const struct flight flight = { .seat = seat, .serial = record->serial, .number = number, .began_ns = began_ns(record) };
	return add_flight(search, &flight);
}

static int note_open(struct search *search)
{
	int error = 0;
	for (size_t i = 0; !error && i < search->question->n_open; i++) {
		const struct roll_found *found = &search->question->open[i];
		const struct flight flight = { .seat = found->seat,
			.serial = found->row.serial,
			.number = NO_NUMBER,
			.began_ns = found->row.accepted_ns,
			.open = &found->row };
		if (found->row.serial != 0 && client_filter_has(&search->question->client, &found->row.client))
			error = add_flight(search, &flight);
	}
	return error;
}

/* The same connection twice: what the older record says counts. */
static void merge_twins(struct flight *kept, const struct flight *twin)
{
	const struct roll_row *open = kept->open ? kept->open : twin->open;
	if (twin->number < kept->number)
		*kept = *twin;
	kept->open = open;
}

/* Who was both accepted and closed, or is open, stands there twice. */
static void drop_twins(struct search *search)
{
	size_t kept = 0;
	if (search->n > 0) /* qsort(3) wants an array even so */
		qsort(search->flights, search->n, sizeof *search->flights, compare_ids);
	for (size_t i = 0; i < search->n; i++) {
		if (kept > 0 && compare_ids(&search->flights[kept - 1], &search->flights[i]) == 0) {
			merge_twins(&search->flights[kept - 1], &search->flights[i]);
			continue;
		}
		search->flights[kept++] = search->flights[i];
	}
	search->n = kept;
}

/* The newest ones, by their ids. */
static void keep_newest(struct search *search)
{
	drop_twins(search);
	if (search->n > search->question->most) {
		qsort(search->flights, search->n, sizeof *search->flights, compare_newest_first);
		search->n = search->question->most;
		qsort(search->flights, search->n, sizeof *search->flights, compare_ids);
	}
}

/* --- their steps --------------------------------------------------------------------------------------------------------------- */

static int add_step(struct search *search, struct flight *flight, const struct record *record)
{
	struct step_of *steps = with_room(search->steps, &search->steps_size, search->n_steps, sizeof *steps);
	if (!steps)
		return -ENOMEM;
	search->steps = steps;
	uint32_t step = (uint32_t)search->n_steps++;
	search->steps[step] = (struct step_of){ .record = *record, .next = NO_STEP };
	*(flight->first == NO_STEP ? &flight->first : &search->steps[flight->last].next) = step;
	flight->last = step;
	flight->over = flight->over || record->kind == RECORD_CLOSED || record->serial == 0;
	return 0;
}

/* What a worker has not closed ended with it. */
static int end_all(struct search *search, uint32_t seat, const struct record *record)
{
	int error = 0;
	for (size_t i = 0; !error && i < search->n; i++) {
		struct flight *flight = &search->flights[i];
		if (flight->seat == seat && flight->first != NO_STEP && !flight->over)
			error = add_step(search, flight, record);
	}
	return error;
}

static int note_step(struct search *search, uint32_t seat, uint64_t number, const struct record *record)
{
	const struct flight key = { .seat = seat, .serial = record->serial };
	(void)number;
	if (record->serial == 0)
		return end_all(search, seat, record);
	struct flight *flight = search->n ? bsearch(&key, search->flights, search->n, sizeof key, compare_ids) : NULL;
	return flight && !flight->over ? add_step(search, flight, record) : 0;
}

static int for_each_record(
        struct search *search, int (*fn)(struct search *search, uint32_t seat, uint64_t number, const struct record *record))
{
	const struct shm *shm = search->shm;
	int error = 0;
	for (uint32_t seat = 0; seat < shm->dims.seats; seat++) {
		const struct recorder_head *head = &shm->recorder_heads[seat];
		struct record record;
		uint32_t n;
		if (!shm_seat_ever_used(shm, seat))
			continue;
		uint64_t number = recorder_oldest(head, &n);
		for (; !error && n > 0; n--, number++)
			if (recorder_read(head, shm_recorder_ring(shm, seat), number, &record))
				error = fn(search, seat, number, &record);
	}
	return error;
}

/* --- the text ---------------------------------------------------------------------------------------------------------------- */

/* RFC 3339, in UTC, with milliseconds. */
static const char *format_moment(const struct flight_question *question, uint64_t time_ns, char *text, size_t size)
{
	uint64_t age_ns = time_ns < question->now_ns ? question->now_ns - time_ns : 0;
	uint64_t unix_ns = age_ns < question->now_unix_ns ? question->now_unix_ns - age_ns : 0;
	time_t seconds = (time_t)(unix_ns / NS_PER_S);
	struct tm when;
	if (!gmtime_r(&seconds, &when))
		return "?";
	size_t length = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &when);
	(void)snprintf(text + length, size - length, ".%03uZ", (unsigned)(unix_ns % NS_PER_S / NS_PER_MS));
	return text;
}

static void emit_moment(struct emit *emit, const char *key, const struct flight_question *question, uint64_t time_ns)
{
	char text[64];
	emit_string(emit, key, format_moment(question, time_ns, text, sizeof text));
}

static bool knows_beginning(const struct search *search, const struct flight *flight)
{
	return flight->first != NO_STEP && search->steps[flight->first].record.kind == RECORD_ACCEPTED;
}

static void emit_forgotten(struct emit *emit, const struct flight_question *question, uint64_t began)
{
	char words[128], moment[64];
	(void)snprintf(words, sizeof words, "open since %s; its beginning is no longer remembered",
	        format_moment(question, began, moment, sizeof moment));
	emit_open(emit, NULL, '{');
	emit_ms(emit, "at_ms", 0);
	emit_string(emit, "step", "forgotten");
	emit_string(emit, "text", words);
	emit_close(emit, '}');
}

static void emit_steps(struct emit *emit, const struct search *search, const struct flight *flight, uint64_t began)
{
	uint64_t before_ns = began;
	emit_open(emit, "steps", '[');
	if (flight->open && !knows_beginning(search, flight))
		emit_forgotten(emit, search->question, began);
	for (uint32_t step = flight->first; step != NO_STEP; step = search->steps[step].next) {
		const struct record *record = &search->steps[step].record;
		char words[1024];
		struct text text = text_of(words, sizeof words);
		flight_words(search->shm, record, record->time_ns > before_ns ? record->time_ns - before_ns : 0, &text);
		emit_open(emit, NULL, '{');
		emit_ms(emit, "at_ms", record->time_ns > began ? record->time_ns - began : 0);
		emit_string(emit, "step", record->serial == 0 ? "worker died" : record_kind_name((enum record_kind)record->kind));
		emit_string(emit, "text", words);
		emit_close(emit, '}');
		before_ns = record->time_ns;
	}
	emit_close(emit, ']');
}

static const char *reason_of(const struct record *last)
{
	return reason_name(last->serial == 0 ? REASON_WORKER_DIED : (enum reason)last->detail);
}

/* The newest record that names the client, who may have been a proxy first; it has its listener, too. */
static const struct record *naming_record(const struct search *search, const struct flight *flight)
{
	const struct record *found = NULL;
	for (uint32_t step = flight->first; step != NO_STEP; step = search->steps[step].next)
		if (client_of(&search->steps[step].record))
			found = &search->steps[step].record;
	return found;
}

/* With whom it is and at which listener is in one of the records, or its worker said so. False: in none of them any more. */
static bool find_names(const struct search *search, const struct flight *flight, const struct record_address **who, uint32_t *listener)
{
	const struct record *named = naming_record(search, flight);
	if (!named && !flight->open)
		return false;
	*who = named ? client_of(named) : &flight->open->client;
	*listener = named ? named->row : flight->open->listener;
	return true;
}

static void emit_flight(struct emit *emit, const struct search *search, const struct flight *flight)
{
	const struct record *last = flight->over ? &search->steps[flight->last].record : NULL;
	const struct record_address *who;
	uint32_t listener;
	if (!find_names(search, flight, &who, &listener))
		return; /* overwritten since it was found */
	uint64_t began = flight->began_ns;
	char text[NAMING_SIZE];
	emit_open(emit, NULL, '{');
	emit_string(emit, "id", naming_connection(flight->seat, flight->serial, text, sizeof text));
	emit_string(emit, "client", naming_client(who, text, sizeof text));
	emit_string(emit, "listener", naming_listener(search->shm, listener, text, sizeof text));
	emit_moment(emit, "began", search->question, began);
	if (last) {
		emit_moment(emit, "ended", search->question, last->time_ns);
		emit_string(emit, "reason", reason_of(last));
	} else {
		emit_null(emit, "ended");
		emit_null(emit, "reason");
	}
	emit_steps(emit, search, flight, began);
	emit_close(emit, '}');
}

static void emit_all(struct search *search, FILE *out)
{
	struct emit emit = { .out = out };
	emit_open(&emit, NULL, '{');
	emit_string(&emit, "address", search->question->address);
	emit_open(&emit, "connections", '[');
	if (search->n > 0)
		qsort(search->flights, search->n, sizeof *search->flights, compare_newest_first);
	for (size_t i = 0; i < search->n; i++)
		emit_flight(&emit, search, &search->flights[i]);
	emit_close(&emit, ']');
	connections_emit_elders(&emit, search->shm);
	emit_close(&emit, '}');
	fputc('\n', out);
}

int flight_explain(const struct shm *shm, const struct flight_question *question, FILE *out)
{
	struct search search = { .shm = shm, .question = question };
	int error = for_each_record(&search, note_flight);
	if (!error)
		error = note_open(&search);
	keep_newest(&search);
	if (!error)
		error = for_each_record(&search, note_step);
	if (!error)
		emit_all(&search, out);
	free(search.flights);
	free(search.steps);
	return error;
}
