#include "view/segment_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/region.h"
#include "shm/sums.h"

/* Far above what a master makes: what is larger was not made by one, and would only cost memory. */
enum { MAX_SEATS = 1 << 16, MAX_LISTENERS = 1 << 14, MAX_SERVERS = 1 << 18 };
static const uint64_t max_size_bytes = UINT64_C(1) << 40;
/* How often to look for a moment in which the reload note is not being written. */
enum { NOTE_TRIES = 5 };

static int cut_short(char *why, size_t why_size)
{
	snprintf(why, why_size, "is cut short");
	return -EINVAL;
}

/* Read size bytes at the offset to where they belong in the copy. */
static int copy_range(int fd, void *base, uint64_t offset, uint64_t size, char *why, size_t why_size)
{
	while (size > 0) {
		ssize_t got = pread(fd, (char *)base + offset, (size_t)size, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return cut_short(why, why_size);
		offset += (uint64_t)got;
		size -= (uint64_t)got;
	}
	return 0;
}

/* Read what lies between two places of the copy. */
static int copy_rows(int fd, const struct segment_copy *copy, const void *first, uint64_t size, char *why, size_t why_size)
{
	return copy_range(fd, copy->base, (uint64_t)((const char *)first - (const char *)copy->base), size, why, why_size);
}

/* The header of another version may be shorter; whether it is ours is for shm_attach() to say. */
static int copy_header(int fd, struct segment_copy *copy, char *why, size_t why_size)
{
	struct shm_header *header = copy->base;
	if (copy->size_bytes < sizeof *header)
		return copy_range(fd, copy->base, 0, copy->size_bytes, why, why_size);
	for (int i = 0; i < NOTE_TRIES; i++) {
		int rc = copy_range(fd, copy->base, 0, sizeof *header, why, why_size);
		if (rc < 0)
			return rc;
		uint32_t before = atomic_load(&header->last_reload_sequence), after = 0;
		ssize_t got = pread(fd, &after, sizeof after, offsetof(struct shm_header, last_reload_sequence));
		if (got == sizeof after && after == before && before % 2 == 0)
			return 0;
	}
	/* Its writer died while writing, or the file is of another version. */
	memset(header->last_reload_note, 0, sizeof header->last_reload_note);
	return 0;
}

static int copy_seat(int fd, const struct segment_copy *copy, uint32_t seat, char *why, size_t why_size)
{
	const struct shm *shm = &copy->shm;
	/* A seat that nobody ever took has no counters, and the copy of its rows stays untouched memory. */
	if (!shm_seat_ever_used(shm, seat))
		return 0;
	const struct listener_row *listener_rows = shm_listener_row(shm, seat, 0);
	int rc = copy_rows(fd, copy, listener_rows, sums_n_listeners(shm) * sizeof *listener_rows, why, why_size);
	if (rc < 0)
		return rc;
	const struct server_row *server_rows = shm_server_row(shm, seat, 0);
	return copy_rows(fd, copy, server_rows, sums_n_servers(shm) * sizeof *server_rows, why, why_size);
}

static int copy_used(int fd, const struct segment_copy *copy, char *why, size_t why_size)
{
	const struct shm *shm = &copy->shm;
	uint64_t listeners = sums_n_listeners(shm), servers = sums_n_servers(shm), upstreams = sums_n_upstreams(shm);
	uint64_t seats = shm->dims.seats;
	const struct {
		const void *first;
		uint64_t size;
	} ranges[] = {
		{ shm_limit(shm, limit_global()), sizeof(struct limit) },
		{ shm_limit(shm, limit_listener(0)), listeners * sizeof(struct limit) },
		{ shm_limit(shm, limit_server(shm, 0)), servers * sizeof(struct limit) },
		{ shm_limit(shm, limit_upstream(shm, 0)), upstreams * sizeof(struct limit) },
		{ shm->upstreams, upstreams * sizeof(struct shm_upstream) },
		/* Of the tables of client addresses only what they count. */
		{ shm->rates.shared, sizeof *shm->rates.shared },
		{ shm->affinities.shared, sizeof *shm->affinities.shared },
		{ shm->listeners, listeners * sizeof(struct shm_listener) },
		{ shm->servers, servers * sizeof(struct shm_server) },
		{ shm->certificates, sums_n_certificates(shm) * sizeof(struct shm_certificate) },
		{ shm->seats, seats * sizeof(struct shm_seat) },
	};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(ranges); i++)
		rc = copy_rows(fd, copy, ranges[i].first, ranges[i].size, why, why_size);
	for (uint32_t seat = 0; rc == 0 && seat < seats; seat++)
		rc = copy_seat(fd, copy, seat, why, why_size);
	return rc;
}

static int attach(struct segment_copy *copy, char *why, size_t why_size)
{
	int rc = shm_attach(&copy->shm, copy->base, copy->size_bytes, why, why_size);
	if (rc < 0)
		return rc;
	const struct shm_dims *dims = &copy->shm.dims;
	if (dims->seats <= MAX_SEATS && dims->listeners <= MAX_LISTENERS && dims->servers <= MAX_SERVERS)
		return 0;
	snprintf(why, why_size, "is damaged: its sizes make no sense");
	return -EINVAL;
}

static int read_file(int fd, struct segment_copy *copy, char *why, size_t why_size)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode) || status.st_size < 0 || (uint64_t)status.st_size > max_size_bytes) {
		snprintf(why, why_size, "is not a statistics segment of Aegis");
		return -EINVAL;
	}
	if (status.st_size == 0)
		return cut_short(why, why_size);
	copy->size_bytes = (uint64_t)status.st_size;
	int rc = region_reserve(copy->size_bytes, &copy->base);
	if (rc < 0)
		return rc;
	rc = copy_header(fd, copy, why, why_size);
	if (rc == 0)
		rc = attach(copy, why, why_size);
	if (rc == 0)
		rc = copy_used(fd, copy, why, why_size);
	if (rc < 0)
		segment_copy_free(copy);
	return rc;
}

int segment_copy_read(struct segment_copy *out, const char *path, char *why, size_t why_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	struct segment_copy copy = { 0 };
	int rc = read_file(fd, &copy, why, why_size);
	close(fd);
	if (rc == 0)
		*out = copy;
	return rc;
}

void segment_copy_free(struct segment_copy *copy)
{
	region_close(copy->base, copy->size_bytes);
}
