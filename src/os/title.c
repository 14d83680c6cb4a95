#include "os/title.h"

#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* The memory of argv and environ belongs to the process, so there is one of it. */
static struct {
	char *area;
	size_t size;
	char **arguments, **environment; /* the copies, which must outlive main() */
} title;

/* The end of the strings that lie one behind the other in memory, from start on; strings elsewhere are not counted. */
static char *contiguous_end(char *end, char **strings)
{
	for (; *strings; strings++)
		if (*strings == end)
			end = *strings + strlen(*strings) + 1;
	return end;
}

/* A copy of a NULL-terminated list of strings, or NULL. One block: setenv() and unsetenv() forget what they take out of environ, so
 * that nothing would point to a string of its own any more. */
static char **copy_strings(char **strings)
{
	size_t count = 0, size = 0;
	for (; strings[count]; count++)
		size += strlen(strings[count]) + 1;
	char **copy = malloc((count + 1) * sizeof *copy + size);
	if (!copy)
		return NULL;
	char *at = (char *)(copy + count + 1);
	for (size_t i = 0; i < count; i++) {
		size_t length = strlen(strings[i]) + 1;
		copy[i] = memcpy(at, strings[i], length);
		at += length;
	}
	copy[count] = NULL;
	return copy;
}

void title_init(int argc, char **argv)
{
	prctl(PR_SET_NAME, "aegis");
	if (title.area || argc < 1 || !argv[0])
		return;
	char *end = contiguous_end(argv[0], argv);
	/* Without the environment the title would be cut at the length of the command line; the kernel shows both as one when
	 * they touch. */
	end = contiguous_end(end, environ);

	char **arguments = copy_strings(argv);
	char **environment = copy_strings(environ);
	if (!arguments || !environment) {
		free(arguments);
		free(environment);
		return;
	}
	title.area = argv[0];
	title.size = (size_t)(end - argv[0]);
	for (int i = 0; i < argc; i++)
		argv[i] = arguments[i];
	title.arguments = arguments;
	title.environment = environment;
	environ = environment;
}

void title_set(const char *format, ...)
{
	if (!title.area)
		return;
	va_list args;
	va_start(args, format);
	int written = vsnprintf(title.area, title.size, format, args);
	va_end(args);
	size_t length = written < 0 ? 0 : (size_t)written;
	if (length < title.size)
		memset(title.area + length, 0, title.size - length);
}
