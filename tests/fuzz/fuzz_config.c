/* Any bytes as a file of settings: an error or settings, never a crash; what loads, dumps to what loads to the same. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"
#include "fuzz.h"

static void write_all(int fd, const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0) {
		ssize_t n = write(fd, at, size);
		ensure(n > 0);
		at += n;
		size -= (size_t)n;
	}
}

/* Load bytes as a file. The file is only in memory. */
static struct config *load_bytes(const void *bytes, size_t size, struct config_errors *errors)
{
	char path[64];
	struct config_source source = { .file = path };
	struct config *config = NULL;
	int fd = memfd_create("aegis.conf", MFD_CLOEXEC);

	ensure(fd >= 0);
	write_all(fd, bytes, size);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int rc = config_load(&source, &config, errors);
	ensure((rc == 0) == (config != NULL) && (rc == 0) == (errors->count == 0));
	close(fd);
	return config;
}

static char *dump(const struct config *config, size_t *size)
{
	char *bytes = NULL;
	FILE *out = open_memstream(&bytes, size);

	ensure(out != NULL);
	config_dump(config, out);
	ensure(fclose(out) == 0);
	return bytes;
}

/* Settings without the comment behind each, which says where it came from: up to the first "; ". */
static void ensure_same_settings(const char *a, const char *b)
{
	while (*a != '\0') {
		size_t a_length = strcspn(a, "\n"), b_length = strcspn(b, "\n");
		const char *a_comment = memmem(a, a_length, "; ", 2), *b_comment = memmem(b, b_length, "; ", 2);
		size_t a_value = a_comment != NULL ? (size_t)(a_comment - a) : a_length,
		       b_value = b_comment != NULL ? (size_t)(b_comment - b) : b_length;
		ensure(a_value == b_value && memcmp(a, b, a_value) == 0);
		a += a_length + 1;
		b += b_length + 1;
	}
	ensure(*b == '\0');
}

static void check_settings(const struct config *config)
{
	struct config_errors errors = { .count = 0 };
	size_t first_size, second_size;
	char *first = dump(config, &first_size);
	struct config *again = load_bytes(first, first_size, &errors);

	ensure(again != NULL);
	char *second = dump(again, &second_size);
	ensure_same_settings(first, second);
	config_free(again);
	free(first);
	free(second);
}

static void check_errors(struct config_errors *errors)
{
	size_t lines = 0;

	for (const char *at = errors->lines; *at != '\0'; at++) {
		ensure(*at == '\n' || (unsigned char)*at >= 0x20);
		lines += *at == '\n';
	}
	ensure(lines == errors->count);
	config_errors_clear(errors);
}

/* The same bytes as the text of an option -e. */
static void load_override(const uint8_t *bytes, size_t size)
{
	char *text = strndup((const char *)bytes, size);
	const char *overrides[] = {
		"listeners = ( { address = \":1\"; } ); upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; } ); } );", text
	};
	struct config_source source = { .overrides = overrides, .n_overrides = 2 };
	struct config_errors errors = { .count = 0 };
	struct config *config = NULL;

	ensure(text != NULL);
	if (config_load(&source, &config, &errors) == 0)
		config_free(config);
	else
		check_errors(&errors);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct config_errors errors = { .count = 0 };
	struct config *config = load_bytes(bytes, size, &errors);

	if (config != NULL)
		check_settings(config);
	else
		check_errors(&errors);
	config_free(config);
	load_override(bytes, size);
	return 0;
}
