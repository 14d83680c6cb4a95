/* Preloaded into a program, counts what each of its processes asks of the allocator and of the kernel for memory.
 *
 * The counts of process N stand in the file N of the directory $AEGIS_MALLOC_COUNT, which the process has mapped: whoever reads the
 * file sees them as they are now, and nothing is disturbed. A forked child begins with a file of its own.
 *
 * The C library's own names for its allocator are used, since dlsym() may allocate. Where they are missing the program does not start.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

struct counts {
	_Atomic uint64_t allocations; /* malloc and its relatives, whatever came of it */
	_Atomic uint64_t mappings;    /* mmap and mremap */
	_Atomic uint64_t breaks;      /* brk and sbrk */
};

static struct counts before_the_file; /* what is asked for that early is told, too */
static struct counts *counts = &before_the_file;
static char directory[4096];

static void count(_Atomic uint64_t *what)
{
	atomic_fetch_add_explicit(what, 1, memory_order_relaxed);
}

/* --- the file ------------------------------------------------------------------------------------------------------------ */

static void *map(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	static void *(*real)(void *, size_t, int, int, int, off_t);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "mmap");
	return real(address, length, protection, flags, fd, offset);
}

static void open_file(void)
{
	char path[sizeof directory + 32];
	(void)snprintf(path, sizeof path, "%s/%d", directory, (int)getpid());
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	if (ftruncate(fd, sizeof *counts) == 0) {
		struct counts *mapped = map(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (mapped != MAP_FAILED) {
			mapped->allocations = before_the_file.allocations;
			mapped->mappings = before_the_file.mappings;
			mapped->breaks = before_the_file.breaks;
			counts = mapped;
		}
	}
	close(fd);
}

static void on_forked(void)
{
	before_the_file = (struct counts){ 0 };
	counts = &before_the_file;
	open_file();
}

__attribute__((constructor)) static void begin(void)
{
	const char *wanted = getenv("AEGIS_MALLOC_COUNT");
	if (!wanted || snprintf(directory, sizeof directory, "%s", wanted) >= (int)sizeof directory)
		return;
	open_file();
	(void)pthread_atfork(NULL, NULL, on_forked);
}

/* --- what is counted ----------------------------------------------------------------------------------------------------- */

void *malloc(size_t size)
{
	count(&counts->allocations);
	return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
	count(&counts->allocations);
	return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
	count(&counts->allocations);
	return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
	count(&counts->allocations);
	return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
	if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
		return EINVAL;
	void *memory = memalign(alignment, size);
	if (!memory)
		return ENOMEM;
	*out = memory;
	return 0;
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	count(&counts->mappings);
	return map(address, length, protection, flags, fd, offset);
}

#if UINTPTR_MAX == UINT64_MAX /* else the two differ */
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return mmap(address, length, protection, flags, fd, offset);
}
#endif

void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
	static void *(*real)(void *, size_t, size_t, int, void *);
	va_list args;
	va_start(args, flags);
	void *new = flags &MREMAP_FIXED ? va_arg(args, void *) : NULL;
	va_end(args);
	count(&counts->mappings);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "mremap");
	return real(old, old_size, new_size, flags, new);
}

int brk(void *end)
{
	static int (*real)(void *);
	count(&counts->breaks);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "brk");
	return real(end);
}

void *sbrk(intptr_t growth)
{
	static void *(*real)(intptr_t);
	count(&counts->breaks);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "sbrk");
	return real(growth);
}
