#include "tls/tickets.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/clock.h"

struct tickets {
	_Atomic uint32_t sequence;
	uint32_t has_before;
	uint64_t made_ns;
	struct ticket_key now, before;
};

/* The kernel's own; it blocks in the first moments after the boot of the machine only. */
static int make_key(struct ticket_key *out)
{
	return getrandom(out, sizeof *out, 0) == (ssize_t)sizeof *out ? 0 : -EIO;
}

int tickets_new(struct tickets **out)
{
	struct tickets *tickets = mmap(NULL, sizeof *tickets, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (tickets == MAP_FAILED)
		return -errno;
	(void)madvise(tickets, sizeof *tickets, MADV_DONTDUMP);
	tickets->made_ns = clock_now_ns();
	if (make_key(&tickets->now)) {
		tickets_close(tickets);
		return -EIO;
	}
	*out = tickets;
	return 0;
}

void tickets_close(struct tickets *tickets)
{
	if (tickets)
		(void)munmap(tickets, sizeof *tickets);
}

bool tickets_tick(struct tickets *tickets, uint64_t rotation_ns, uint64_t now_ns)
{
	struct ticket_key key;
	uint32_t sequence;

	if (now_ns - tickets->made_ns < rotation_ns || make_key(&key))
		return false;
	sequence = atomic_load_explicit(&tickets->sequence, memory_order_relaxed);
	atomic_store_explicit(&tickets->sequence, sequence + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	tickets->before = tickets->now;
	tickets->has_before = 1;
	tickets->now = key;
	tickets->made_ns = now_ns;
	atomic_store_explicit(&tickets->sequence, sequence + 2, memory_order_release);
	explicit_bzero(&key, sizeof key);
	return true;
}

/* A copy that no writer touched meanwhile. One that died in the midst of it leaves the sequence odd: then what there is may be torn, and a
 * ticket that it makes is of no use, which costs a full handshake. */
static void copy(const struct tickets *tickets, struct tickets *out)
{
	for (int tries = 0; tries < 1000; tries++) {
		uint32_t before = atomic_load_explicit(&tickets->sequence, memory_order_acquire);
		memcpy((char *)out + sizeof out->sequence, (const char *)tickets + sizeof out->sequence,
		        sizeof *out - sizeof out->sequence);
		atomic_thread_fence(memory_order_acquire);
		if ((before & 1) == 0 && before == atomic_load_explicit(&tickets->sequence, memory_order_relaxed))
			return;
	}
}

void tickets_current(const struct tickets *tickets, struct ticket_key *out)
{
	struct tickets now;

	copy(tickets, &now);
	*out = now.now;
	explicit_bzero(&now, sizeof now);
}

bool tickets_find(const struct tickets *tickets, const unsigned char name[16], struct ticket_key *out, bool *old)
{
	struct tickets now;
	bool current, before;

	copy(tickets, &now);
	current = memcmp(now.now.name, name, sizeof now.now.name) == 0;
	before = !current && now.has_before && memcmp(now.before.name, name, sizeof now.before.name) == 0;
	if (current || before)
		*out = current ? now.now : now.before;
	*old = before;
	explicit_bzero(&now, sizeof now);
	return current || before;
}
