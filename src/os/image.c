#include "os/image.h"

#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "os/region.h"

/* An entry of /proc/self/pagemap: the page is in memory, or in the swap; it is the file's, and not a copy of ours. */
#define PAGE_IS_THERE (UINT64_C(3) << 62)
#define PAGE_OF_FILE (UINT64_C(1) << 61)

enum { PAGES_AT_ONCE = 64 };

struct image {
	int pagemap;
	uintptr_t page_bytes;
};

static bool are_of_file(const uint64_t *pages, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (pages[i] & PAGE_IS_THERE && !(pages[i] & PAGE_OF_FILE))
			return false;
	return true;
}

/* Only what is not writable now, and never was written to: not by relocation, and not by who traces us with breakpoints. */
static void let_go_segment(const struct image *image, uintptr_t start, uintptr_t end)
{
	uint64_t pages[PAGES_AT_ONCE];
	uintptr_t first = (start + image->page_bytes - 1) / image->page_bytes, behind = end / image->page_bytes;
	while (first < behind) {
		size_t count = behind - first < PAGES_AT_ONCE ? behind - first : PAGES_AT_ONCE;
		ssize_t bytes = (ssize_t)(count * sizeof *pages);
		if (pread(image->pagemap, pages, (size_t)bytes, (off_t)(first * sizeof *pages)) != bytes)
			return;
		if (are_of_file(pages, count))
			region_discard((void *)(first * image->page_bytes), count * image->page_bytes);
		first += count;
	}
}

/* The last segment first: the table of them is in the first one. */
static int let_go_object(struct dl_phdr_info *object, size_t size, void *arg)
{
	(void)size;
	if (object->dlpi_name[0] != '\0' && object->dlpi_name[0] != '/')
		return 0; /* the kernel's, and no file */
	for (size_t i = object->dlpi_phnum; i-- > 0;) {
		const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
		uintptr_t start = object->dlpi_addr + segment->p_vaddr;
		if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_W))
			let_go_segment(arg, start, start + segment->p_memsz);
	}
	return 0;
}

void image_let_go(void)
{
	struct image image = { .pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC),
		.page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE) };
	if (image.pagemap < 0)
		return;
	(void)dl_iterate_phdr(let_go_object, &image);
	close(image.pagemap);
}
