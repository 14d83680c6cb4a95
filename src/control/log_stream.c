#include "control/log_stream.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_format.h"
#include "shm/log_records.h"
#include "view/access_record.h"

enum { TURN_BYTES = 256 * 1024 };
/* Any line, with its head. */
enum { LINE_MOST = ACCESS_LINE_SIZE + 256 };

/* --- lines of the error log -------------------------------------------------------------------------------------------------- */

static bool add_line(const struct log_stream *stream, uint32_t seat, const void *bytes, size_t length, struct text *out)
{
	struct line_record record;
	char message[LOG_RECORD_MOST + 1], process[32];
	(void)seat;
	if (length < sizeof record)
		return false;
	memcpy(&record, bytes, sizeof record);
	if (record.level > LOG_LEVEL_DEBUG)
		return false;
	memcpy(message, (const char *)bytes + sizeof record, length - sizeof record);
	message[length - sizeof record] = '\0';
	(void)snprintf(process, sizeof process, "worker %u", record.slot);
	log_add_entry(out, stream->sink, stream->format,
	        &(struct log_entry){ .level = (enum log_level)record.level,
	                .unix_ns = record.unix_ns,
	                .process = process,
	                .pid = record.pid,
	                .message = message });
	return true;
}

/* --- records of the access log ----------------------------------------------------------------------------------------------- */

static const char *copy_name(char *out, size_t size, const char *shared)
{
	size_t length = strnlen(shared, size - 1);
	memcpy(out, shared, length);
	out[length] = '\0';
	return out;
}

static const char *copy_text(char *out, const char *text, size_t length)
{
	memcpy(out, text, length);
	out[length] = '\0';
	return out;
}

static size_t texts_length(const struct access_record *record)
{
	size_t sum = 0;
	for (size_t i = 0; i < N_ACCESS_TEXTS; i++)
		sum += record->text_lengths[i];
	return sum;
}

static bool add_record(const struct log_stream *stream, uint32_t seat, const void *bytes, size_t length, struct text *out)
{
	const struct shm *shm = stream->shm;
	struct access_record record;
	char listener[SHM_NAME_SIZE] = "", upstream[SHM_NAME_SIZE] = "", server[SHM_ADDRESS_SIZE];
	char texts[N_ACCESS_TEXTS][ACCESS_TEXT_MOST + 1];
	if (length < sizeof record)
		return false;
	memcpy(&record, bytes, sizeof record);
	if (!access_record_is_sound(&record) || length != sizeof record + texts_length(&record))
		return false;
	struct access_entry entry = { .record = &record, .unix_ns = record.at_ns + (uint64_t)stream->unix_offset_ns, .seat = seat };
	entry.listener = record.listener < shm->dims.listeners ? copy_name(listener, sizeof listener, shm->listeners[record.listener].name)
	                                                       : listener;
	entry.upstream =
	        record.upstream < SHM_UPSTREAMS ? copy_name(upstream, sizeof upstream, shm->upstreams[record.upstream].name) : upstream;
	const char *text = (const char *)bytes + sizeof record;
	for (size_t i = 0; i < N_ACCESS_TEXTS; text += record.text_lengths[i++])
		if (record.text_lengths[i])
			entry.texts[i] = copy_text(texts[i], text, record.text_lengths[i]);
	if (record.server < shm->dims.servers)
		entry.server = copy_name(server, sizeof server, shm->servers[record.server].name);
	log_add_head(out, stream->sink,
	        &(struct log_entry){ .level = LOG_LEVEL_INFO, .unix_ns = entry.unix_ns, .process = "access", .pid = getpid() });
	if (stream->format == LOG_FORMAT_JSON)
		access_record_add_json(out, &entry);
	else
		access_record_add_text(out, &entry, !log_sink_takes_messages(stream->sink));
	log_add_end(out, stream->sink);
	return true;
}

/* --- out of the rings -------------------------------------------------------------------------------------------------------- */

void log_stream_init(struct log_stream *stream, const struct shm *shm, enum log_kind kind, struct log_sink *sink, enum log_format format)
{
	memset(stream, 0, offsetof(struct log_stream, lines));
	stream->shm = shm;
	stream->kind = kind;
	stream->sink = sink;
	stream->format = format;
	stream->add = kind == LOG_KIND_ERROR ? add_line : add_record;
}

static struct log_ring *ring_of(const struct log_stream *stream, uint32_t seat)
{
	return shm_log_ring(stream->shm, seat, stream->kind);
}

/* Lines out of the ring of a seat: as many as there is room for, or one where each is a message. */
static void take_from(struct log_stream *stream, uint32_t seat)
{
	struct log_ring *ring = ring_of(stream, seat);
	size_t most = log_sink_takes_messages(stream->sink) ? 1 : LOG_STREAM_BYTES - LINE_MOST;
	char record[LOG_RECORD_MOST];
	stream->seat = seat;
	stream->position = log_ring_position(ring);
	stream->length = stream->written = 0;
	while (stream->length < most) {
		int length = log_ring_read(ring, shm_log_most(stream->kind), &stream->position, record, sizeof record);
		if (length == -EBADMSG) {
			stream->unsound++;
			stream->position = log_ring_end(ring);
		}
		if (length < 0)
			break;
		struct text text = text_of(stream->lines + stream->length, LINE_MOST);
		if (stream->add(stream, seat, record, (size_t)length, &text))
			stream->length += text.length;
		else
			stream->unsound++;
	}
	if (stream->length == 0)
		log_ring_release(ring, stream->position);
}

/* The next seat that has something; false when none has. */
static bool take(struct log_stream *stream)
{
	uint32_t seats = stream->shm->dims.seats;
	for (uint32_t i = 0; i < seats; i++) {
		uint32_t seat = stream->next_seat;
		stream->next_seat = seat + 1 < seats ? seat + 1 : 0;
		if (!shm_seat_ever_used(stream->shm, seat) || log_ring_is_empty(ring_of(stream, seat)))
			continue;
		if (stream->sink)
			take_from(stream, seat);
		else
			log_ring_release(ring_of(stream, seat), log_ring_end(ring_of(stream, seat)));
		return true;
	}
	return false;
}

/* --- into the target --------------------------------------------------------------------------------------------------------- */

/* Where the line begins in which `written` stands. */
static size_t line_start(const struct log_stream *stream)
{
	const char *end = memrchr(stream->lines, '\n', stream->written);
	return end ? (size_t)(end - stream->lines) + 1 : 0;
}

/* How much to write at a time: all, or as many whole lines as nobody else's come in between. */
static size_t piece(const struct log_stream *stream)
{
	size_t left = stream->length - stream->written, most = log_sink_most(stream->sink);
	if (left <= most || log_sink_takes_messages(stream->sink))
		return left;
	const char *end = memrchr(stream->lines + stream->written, '\n', most);
	return end ? (size_t)(end - stream->lines) + 1 - stream->written : most;
}

static void done(struct log_stream *stream)
{
	stream->length = stream->written = 0;
	log_ring_release(ring_of(stream, stream->seat), stream->position);
}

/* Lines of others may have come in between: half a line of ours begins anew then, and ours do not go on where half a line of others ended.
 * False when the target took nothing. */
static bool find_place(struct log_stream *stream)
{
	size_t start = line_start(stream);
	if (!stream->sink->torn)
		stream->written = start;
	if (!stream->sink->torn || stream->written != start)
		return true;
	ssize_t n = log_sink_write(stream->sink, "\n", 1);
	stream->error = n < 0 ? (int)-n : 0;
	stream->sink->torn = n <= 0;
	return n > 0;
}

/* False when the target did not take all. */
static bool put(struct log_stream *stream)
{
	bool messages = log_sink_takes_messages(stream->sink);
	if (!messages && !find_place(stream))
		return false;
	size_t wanted = piece(stream);
	ssize_t n = log_sink_write(stream->sink, stream->lines + stream->written, wanted);
	stream->error = n < 0 ? (int)-n : (size_t)n < wanted ? EAGAIN : 0;
	if (n == -EMSGSIZE) { /* never, however long it waits */
		stream->unsound++;
		stream->error = 0;
		done(stream);
		return true;
	}
	if (n <= 0)
		return false;
	stream->written += (size_t)n;
	stream->sink->torn = !messages && stream->lines[stream->written - 1] != '\n';
	if (messages || stream->written == stream->length)
		done(stream);
	return stream->error == 0;
}

bool log_stream_work(struct log_stream *stream, bool *any)
{
	size_t bytes = 0;
	stream->unix_offset_ns = (int64_t)(log_now_unix_ns() - clock_now_ns());
	while (bytes < TURN_BYTES) {
		if (stream->length == 0 && !take(stream))
			return false;
		*any = true;
		size_t before = stream->written;
		if (stream->length == 0)
			continue; /* nothing in it was any good, or wanted */
		if (!put(stream))
			return false;
		bytes += stream->written > before ? stream->written - before : LINE_MOST;
	}
	return true;
}

void log_stream_stop(struct log_stream *stream)
{
	struct log_ring *ring = ring_of(stream, stream->seat);
	char record[LOG_RECORD_MOST], line[LINE_MOST];
	if (stream->length == 0)
		return;
	/* Go through the records once more, to where the last whole line ended. */
	uint64_t position = log_ring_position(ring);
	size_t whole = line_start(stream), bytes = 0;
	while (bytes < whole) {
		uint64_t next = position;
		int length = log_ring_read(ring, shm_log_most(stream->kind), &next, record, sizeof record);
		if (length < 0)
			break;
		struct text text = text_of(line, sizeof line);
		bytes += stream->add(stream, stream->seat, record, (size_t)length, &text) ? text.length : 0;
		position = next;
	}
	log_ring_release(ring, position);
	stream->length = stream->written = 0;
}

uint64_t log_stream_drops(const struct log_stream *stream)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < stream->shm->dims.seats; i++) {
		const struct shm_seat *seat = &stream->shm->seats[i];
		sum += counter_get(stream->kind == LOG_KIND_ERROR ? &seat->log_drops : &seat->access_drops);
	}
	return sum;
}
