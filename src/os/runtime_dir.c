#include "os/runtime_dir.h"

#include <unistd.h>

char *runtime_dir_default(char *out, size_t size)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	if (geteuid() == 0)
		snprintf(out, size, "/run/aegis");
	else if (base != NULL && base[0] == '/')
		snprintf(out, size, "%s/aegis", base);
	else
		snprintf(out, size, "/tmp/aegis-%lu", (unsigned long)geteuid());
	return out;
}
