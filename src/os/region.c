#include "os/region.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Map a file whole, to be shared. 0 and *out, or a negative errno. */
static int map_file(int fd, size_t size_bytes, int protection, void **out)
{
	void *base = mmap(NULL, size_bytes, protection, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	/* Rows are touched one here, one there. Without this the first touch of each reads ahead, on a disk for megabytes of holes: that
	 * took longer than all the rest of a start. */
	(void)madvise(base, size_bytes, MADV_RANDOM);
	*out = base;
	return 0;
}

/* Give the file behind fd its size and owners, and map it. 0 and *out, or a negative errno. */
static int fill_region(int fd, uint64_t size_bytes, gid_t gid, void **out)
{
	if (ftruncate(fd, (off_t)size_bytes) < 0)
		return -errno;
	if (gid != (gid_t)-1 && fchown(fd, (uid_t)-1, gid) < 0)
		return -errno;
	if (fchmod(fd, 0640) < 0) /* after the change of group: 0640 never shows it to the wrong one */
		return -errno;
	return map_file(fd, (size_t)size_bytes, PROT_READ | PROT_WRITE, out);
}

int region_create(const char *path, uint64_t size_bytes, gid_t gid, void **out)
{
	if (size_bytes == 0)
		return -EINVAL;
	if (size_bytes > INT64_MAX)
		return -EFBIG;
	char temporary[PATH_MAX];
	int length = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
	if (length < 0 || (size_t)length >= sizeof temporary)
		return -ENAMETOOLONG;
	int fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	void *base = NULL;
	int err = fill_region(fd, size_bytes, gid, &base);
	if (err == 0 && rename(temporary, path) < 0) {
		err = -errno;
		region_close(base, size_bytes);
	}
	if (err == 0)
		*out = base;
	else
		unlink(temporary);
	close(fd);
	return err;
}

int region_open(const char *path, int writable, void **out, uint64_t *size_bytes)
{
	/* O_NONBLOCK: a fifo put in place of the file must not hold us up. */
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY);
	if (fd < 0)
		return errno == ENXIO || errno == EISDIR ? -EINVAL : -errno;
	int err = 0;
	struct stat file;
	if (fstat(fd, &file) < 0) {
		err = -errno;
		goto out;
	}
	if (!S_ISREG(file.st_mode) || file.st_size <= 0) {
		err = -EINVAL;
		goto out;
	}
	err = map_file(fd, (size_t)file.st_size, PROT_READ | (writable ? PROT_WRITE : 0), out);
	if (!err)
		*size_bytes = (uint64_t)file.st_size;
out:
	close(fd);
	return err;
}

int region_reserve(uint64_t size_bytes, void **out)
{
	void *base = mmap(NULL, (size_t)size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	*out = base;
	return 0;
}

int region_populate(void *start, uint64_t size_bytes)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = (uintptr_t)start / page * page;
	uint64_t length = (uintptr_t)start + size_bytes - from;
	if (size_bytes == 0 || madvise((void *)from, length, MADV_POPULATE_WRITE) == 0)
		return 0;
	return errno == EFAULT || errno == ENOMEM || errno == EHWPOISON ? -ENOSPC : 0;
}

void region_discard(void *start, uint64_t size_bytes)
{
	(void)madvise(start, size_bytes, MADV_DONTNEED); /* what is not whole pages stays */
}

void region_close(void *base, uint64_t size_bytes)
{
	if (base)
		munmap(base, (size_t)size_bytes);
}
