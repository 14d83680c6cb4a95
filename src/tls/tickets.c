#include "tls/tickets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

/* Another program may have made it: change the number with whatever follows. */
#define MAGIC UINT64_C(0x41454749534b0001)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* The current one, the one before, the one that is being written, and one for a reader that is late. */
enum { PLACES = 4 };

struct tickets {
	uint64_t magic;
	_Atomic uint64_t made; /* keys so far, at least one; the last of them is in keys[(made - 1) % PLACES] */
	uint64_t made_ns;      /* when that was; the writer's */
	struct ticket_key keys[PLACES];
};

/* The kernel's own; it blocks in the first moments after the boot of the machine only. */
static int make_key(struct ticket_key *out)
{
	return getrandom(out, sizeof *out, 0) == (ssize_t)sizeof *out ? 0 : -EIO;
}

static int map(int fd, struct tickets **out)
{
	struct tickets *tickets = mmap(NULL, sizeof *tickets, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (tickets == MAP_FAILED)
		return -errno;
	(void)madvise(tickets, sizeof *tickets, MADV_DONTDUMP);
	*out = tickets;
	return 0;
}

int tickets_new(struct tickets **out, int *out_fd)
{
	struct tickets *tickets = NULL;
	int fd = memfd_create("aegis tickets", MFD_CLOEXEC | MFD_ALLOW_SEALING), error;

	if (fd < 0)
		return -errno;
	error = ftruncate(fd, sizeof *tickets) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0 ? -errno : map(fd, &tickets);
	if (!error)
		error = make_key(&tickets->keys[0]);
	if (error) {
		tickets_close(tickets);
		close(fd);
		return error;
	}
	tickets->magic = MAGIC;
	tickets->made_ns = clock_now_ns();
	atomic_store_explicit(&tickets->made, 1, memory_order_release);
	*out = tickets;
	*out_fd = fd;
	return 0;
}

int tickets_adopt(int fd, struct tickets **out)
{
	struct tickets *tickets;
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	/* What may still shrink would be a SIGBUS one day. */
	if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 || st.st_size != (off_t)sizeof *tickets)
		return -EPROTO;
	int error = map(fd, &tickets);
	if (error)
		return error;
	if (tickets->magic != MAGIC || atomic_load_explicit(&tickets->made, memory_order_acquire) == 0) {
		tickets_close(tickets);
		return -EPROTO;
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
	uint64_t made = atomic_load_explicit(&tickets->made, memory_order_relaxed);

	if (now_ns - tickets->made_ns < rotation_ns || make_key(&tickets->keys[made % PLACES]))
		return false; /* a key that is not whole is nobody's */
	tickets->made_ns = now_ns;
	atomic_store_explicit(&tickets->made, made + 1, memory_order_release);
	/* Whoever gets at the memory later shall not read what was said before. Who reads one of them just now sees the count change, and
	 * looks again. */
	atomic_thread_fence(memory_order_release);
	explicit_bzero(&tickets->keys[(made + 1) % PLACES], sizeof *tickets->keys);
	explicit_bzero(&tickets->keys[(made + 2) % PLACES], sizeof *tickets->keys);
	return true;
}

/* The last key but `back`; false when there is none. Two more are made before its place is written again, which takes seconds: more than a
 * few tries are those of a memory that somebody spoils, and a key of no use costs a full handshake. */
static bool read_key(const struct tickets *tickets, uint64_t back, struct ticket_key *out)
{
	uint64_t made = atomic_load_explicit(&tickets->made, memory_order_acquire), now = made;

	for (int tries = 0; tries < 8; tries++) {
		if (now <= back)
			return false;
		made = now;
		memcpy(out, &tickets->keys[(made - 1 - back) % PLACES], sizeof *out);
		atomic_thread_fence(memory_order_acquire);
		now = atomic_load_explicit(&tickets->made, memory_order_relaxed);
		if (now == made)
			break;
	}
	return true;
}

void tickets_current(const struct tickets *tickets, struct ticket_key *out)
{
	if (!read_key(tickets, 0, out))
		*out = tickets->keys[0]; /* there is one from the start; somebody spoiled the count */
}

bool tickets_find(const struct tickets *tickets, const unsigned char name[16], struct ticket_key *out, bool *old)
{
	struct ticket_key key;
	bool found = false;

	for (uint64_t back = 0; !found && back < 2 && read_key(tickets, back, &key); back++) {
		found = memcmp(key.name, name, sizeof key.name) == 0;
		if (found) {
			*out = key;
			*old = back > 0;
		}
	}
	if (!found)
		*old = false;
	explicit_bzero(&key, sizeof key);
	return found;
}
